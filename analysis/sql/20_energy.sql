-- Energy is computed here and nowhere else.
--
-- A window is the measured window of a cell, one of its idle phases, or a spell without a worker. For each meter (a GPU, a
-- CPU package, its DRAM):
--   counter_mj   the energy counter at the window's end less that at its begin. Between its readings the counter is taken
--                to run parallel to the integral of power, at the distance that it has on average over the second around
--                (the counter steps every 100 ms and is read every 100 ms, so a single reading is up to a step late, by
--                chance). In windows below 1 s, where such an average is no better than what it corrects, and without
--                power readings: straight between the two readings around the edge at which the counter had just stepped;
--   integral_mj  the trapezoid over the power readings, the last reading before each edge held up to the edge.
-- Neither is guessed: an edge without a reading on either side, or a last reading more than a second old, is NULL.
--
-- uncertainty_j bounds the error of gross_j: readings and counter are late by up to a step of 100 ms and as much again in
-- the board, so a window's energy may be off by what a shift of 0.2 s, and the longest gap between two readings, can move:
-- that time times (highest less lowest power from 0.2 s before to 0.2 s after the window). Power that is the same before,
-- within and after a window makes it small; a burst out of idle does not. The sensor's gain (some 5 %) is not in it.
--
-- Idle power with the worker's context open is measured before warm-up and after the window. A board that warms up under
-- load draws more when it idles afterwards; during the window it drew what lies between. idle_w is therefore the straight
-- line through both, read at the middle of the window; where one of them is unknown (runs of older versions have no idle
-- phase before the window) it is the other. idle_without_context_w is that of the run's spells without a worker.
-- Readings are late, so the first half second of an idle phase (at most half of it) does not count; where the board tells
-- averages over a second, the first 1.5 s, and a shorter phase tells nothing.

CREATE TABLE batch.run (run VARCHAR);
CREATE TABLE batch.power_file (path VARCHAR, run VARCHAR, boot BIGINT);

-- one row per power reading of these runs, `stream` names one meter of one run: what readings are compared within
CREATE VIEW live.reading AS
SELECT source.run, source.path, source.boot, file.* EXCLUDE (filename),
  concat_ws('|', source.run, file.domain, file.uuid, file.device, 'boot ' || source.boot) AS stream,
  regexp_extract(file.domain, '^[a-z]+') AS class,
  coalesce(t_ns IS NULL OR domain IS NULL OR NOT isfinite(power_mw) OR NOT isfinite(energy_mj) OR power_mw < 0 OR energy_mj < 0, false)
    AS faulty
FROM read_csv(
  getvariable('batch_power_paths'), columns = getvariable('power_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file
JOIN batch.power_file AS source ON source.path = file.filename;

CREATE TABLE batch.reading AS FROM live.reading LIMIT 0;

-- the meters of these runs, with the best power source that each has, and how long after a load their readings still show it
CREATE VIEW live.meter AS
WITH found AS (
  SELECT run, stream, any_value(class) AS class, any_value(uuid) AS uuid, any_value(device) AS device, any_value(boot) AS boot,
    arg_min(coalesce(power_source, ''), coalesce(list_position(['instant', 'average', 'usage'], power_source), 9))
      FILTER (power_mw IS NOT NULL) AS source,
    count(power_mw) + count(energy_mj) > 0 AS tells_energy
  FROM batch.reading GROUP BY run, stream
)
SELECT found.*,
  -- after NVML's documentation: nvmlDeviceGetPowerUsage is an average over a second on Ampere (but GA100, 8.0) and newer
  CASE WHEN source ^@ 'average' OR (source ^@ 'usage' AND try_cast(gpu.compute_capability AS DOUBLE) > 8.0)
    THEN 1500000000 ELSE 500000000 END AS settle_ns
FROM found LEFT JOIN run_device AS gpu ON gpu.run = found.run AND gpu.uuid = found.uuid;

CREATE TABLE batch.meter AS FROM live.meter LIMIT 0;

-- windows of cells, of their idle phases and of their run's spells without a worker, with the meters of the cell's device
CREATE VIEW live.energy_window AS
WITH cell AS (
  SELECT c.run, c.cell_key, c.device, c.device_uuid, b.boot FROM cell_row AS c LEFT JOIN cell_boot AS b USING (run, cell_key)
),
owned AS (
  -- a meter of the same boot: the clock of another one began elsewhere
  SELECT cell.run, cell.cell_key, meter.stream, meter.class, meter.settle_ns
  FROM cell JOIN batch.meter AS meter ON meter.run = cell.run AND meter.boot IS NOT DISTINCT FROM cell.boot AND meter.class <> 'gpu'
  UNION ALL
  SELECT cell.run, cell.cell_key, meter.stream, meter.class, meter.settle_ns
  FROM cell JOIN batch.meter AS meter ON meter.run = cell.run AND meter.boot IS NOT DISTINCT FROM cell.boot
    AND meter.class = 'gpu' AND meter.uuid = cell.device_uuid
  UNION ALL
  SELECT cell.run, cell.cell_key, meter.stream, meter.class, meter.settle_ns
  FROM cell JOIN batch.meter AS meter ON meter.run = cell.run AND meter.boot IS NOT DISTINCT FROM cell.boot
    AND meter.class = 'gpu' AND 'gpu' || meter.device = cell.device AND coalesce(meter.uuid, cell.device_uuid) IS NULL
)
SELECT m.run, m.cell_key, 'measure' AS purpose, 0 AS part, window_start_ns AS start_ns, window_end_ns AS end_ns, stream, class
FROM batch.measured AS m JOIN owned USING (run, cell_key) WHERE window_end_ns > window_start_ns
UNION ALL
SELECT p.run, p.cell_key, p.phase, row_number() OVER (PARTITION BY p.run, p.cell_key, p.phase, stream ORDER BY start_ns),
  start_ns + CASE WHEN settle_ns > 500000000 THEN settle_ns ELSE least(settle_ns, (end_ns - start_ns) // 2) END AS from_ns,
  end_ns, stream, class
FROM phase_row AS p JOIN owned USING (run, cell_key)
WHERE p.phase IN ('idle_before', 'idle') AND p.run IN (FROM batch.run) AND end_ns > from_ns
UNION ALL
SELECT cell.run, cell.cell_key, 'without_context', row_number() OVER (PARTITION BY cell.run, cell.cell_key, stream ORDER BY start_ns),
  start_ns, end_ns, stream, class
FROM idle_spell AS spell JOIN cell ON cell.run = spell.run AND cell.device = spell.device AND cell.boot IS NOT DISTINCT FROM spell.boot
JOIN owned ON owned.run = cell.run AND owned.cell_key = cell.cell_key
WHERE end_ns > start_ns AND cell.run IN (FROM batch.run);

CREATE TABLE batch.energy_window AS FROM live.energy_window LIMIT 0;

-- power readings with the energy since the meter's first reading, of the best of its power sources
CREATE VIEW live.power_cumulated AS SELECT * EXCLUDE (run) FROM cumulated_power('batch.reading');

CREATE TABLE batch.power_cumulated AS FROM live.power_cumulated LIMIT 0;

-- counter readings at which the counter had stepped since the reading before, per meter; offset_mj is how far the counter
-- was ahead of the cumulated power, on average over the second around the reading, where nothing fell in that second
CREATE VIEW live.counter_step AS
WITH every AS (
  SELECT reading.stream, reading.t_ns, reading.energy_mj, reading.energy_mj - power.cumulated_mj AS ahead_mj,
    lag(reading.energy_mj) OVER (PARTITION BY reading.stream ORDER BY reading.t_ns) AS before_mj
  FROM batch.reading AS reading LEFT JOIN batch.power_cumulated AS power USING (stream, t_ns)
  WHERE reading.energy_mj IS NOT NULL
)
SELECT stream, t_ns, energy_mj,
  CASE WHEN count(ahead_mj) OVER around >= 5 AND count_if(energy_mj < before_mj) OVER around = 0
    THEN avg(ahead_mj) OVER around END AS offset_mj
FROM every
WINDOW around AS (PARTITION BY stream ORDER BY t_ns RANGE BETWEEN 500000000 PRECEDING AND 500000000 FOLLOWING)
QUALIFY energy_mj <> before_mj;

CREATE TABLE batch.counter_step AS FROM live.counter_step LIMIT 0;

-- both energies of every window on every meter
CREATE VIEW live.meter_energy AS
WITH
begin_before AS (
  SELECT w.*, c.t_ns AS b0_ns, c.energy_mj AS b0_mj, c.offset_mj AS b0_offset_mj
  FROM batch.energy_window AS w ASOF LEFT JOIN batch.counter_step AS c ON c.stream = w.stream AND w.start_ns >= c.t_ns
),
begin_after AS (
  SELECT w.*, c.t_ns AS b1_ns, c.energy_mj AS b1_mj
  FROM begin_before AS w ASOF LEFT JOIN batch.counter_step AS c ON c.stream = w.stream AND w.start_ns <= c.t_ns
),
end_before AS (
  SELECT w.*, c.t_ns AS e0_ns, c.energy_mj AS e0_mj, c.offset_mj AS e0_offset_mj
  FROM begin_after AS w ASOF LEFT JOIN batch.counter_step AS c ON c.stream = w.stream AND w.end_ns >= c.t_ns
),
end_after AS (
  SELECT w.*, c.t_ns AS e1_ns, c.energy_mj AS e1_mj
  FROM end_before AS w ASOF LEFT JOIN batch.counter_step AS c ON c.stream = w.stream AND w.end_ns <= c.t_ns
),
power_begin AS (
  SELECT w.*, p.t_ns AS p0_ns, p.power_mw AS p0_mw
  FROM end_after AS w ASOF LEFT JOIN batch.power_cumulated AS p ON p.stream = w.stream AND w.start_ns >= p.t_ns
),
power_first AS (
  SELECT w.*, p.t_ns AS p1_ns, p.power_mw AS p1_mw, p.cumulated_mj AS p1_mj, p.source AS source
  FROM power_begin AS w ASOF LEFT JOIN batch.power_cumulated AS p ON p.stream = w.stream AND w.start_ns <= p.t_ns
),
power_last AS (
  SELECT w.*, p.t_ns AS p2_ns, p.power_mw AS p2_mw, p.cumulated_mj AS p2_mj, coalesce(w.source, p.source) AS power_source
  FROM power_first AS w ASOF LEFT JOIN batch.power_cumulated AS p ON p.stream = w.stream AND w.end_ns >= p.t_ns
)
SELECT run, cell_key, purpose, part, class, stream, seconds, (start_ns + end_ns) // 2 AS middle_ns, power_source,
  CASE
    WHEN seconds >= 1 AND interpolated_mj > 0 THEN coalesce(integral_mj + e0_offset_mj - b0_offset_mj, interpolated_mj)
    ELSE interpolated_mj
  END AS counter_mj,
  integral_mj
FROM (
  SELECT *, (end_ns - start_ns) / 1e9 AS seconds,
    CASE WHEN b1_ns - b0_ns <= 2000000000 AND e1_ns - e0_ns <= 2000000000 THEN
      (CASE WHEN e1_ns > e0_ns THEN e0_mj + (e1_mj - e0_mj) * (end_ns - e0_ns) / (e1_ns - e0_ns) ELSE e0_mj END)
      - (CASE WHEN b1_ns > b0_ns THEN b0_mj + (b1_mj - b0_mj) * (start_ns - b0_ns) / (b1_ns - b0_ns) ELSE b0_mj END)
    END AS interpolated_mj,
    CASE
      WHEN end_ns - p2_ns > 1000000000 THEN NULL
      WHEN p1_ns <= end_ns AND coalesce(start_ns - p0_ns, 0) <= 1000000000 AND (p0_ns IS NOT NULL OR p1_ns - start_ns <= 1000000000)
        THEN (coalesce(p0_mw, p1_mw) + p1_mw) / 2 * (p1_ns - start_ns) / 1e9
          + (p2_mj - p1_mj) + p2_mw * (end_ns - p2_ns) / 1e9
      WHEN start_ns - p0_ns <= 1000000000 THEN p0_mw * (end_ns - start_ns) / 1e9
    END AS integral_mj
  FROM power_last
);

CREATE TABLE batch.meter_energy AS FROM live.meter_energy LIMIT 0;

-- one row per cell whose window was to be metered and is not: readings ended before it did, or have a hole at its edges
CREATE VIEW live.unmetered AS
WITH missed AS (
  SELECT w.run, w.cell_key, w.class, w.stream, w.start_ns, w.end_ns
  FROM batch.energy_window AS w JOIN batch.meter_energy AS m USING (run, cell_key, purpose, part, stream)
  JOIN batch.meter ON batch.meter.stream = w.stream
  WHERE w.purpose = 'measure' AND m.counter_mj IS NULL AND m.integral_mj IS NULL AND batch.meter.tells_energy
),
last AS (
  SELECT missed.*, r.t_ns AS last_ns
  FROM missed ASOF LEFT JOIN (SELECT stream, t_ns FROM batch.reading) AS r ON r.stream = missed.stream AND missed.end_ns >= r.t_ns
)
SELECT run, cell_key, string_agg(DISTINCT class || ': ' || CASE
    WHEN last_ns IS NULL THEN 'readings begin after the window'
    WHEN last_ns < start_ns THEN printf('readings end %.1f s before the window', (start_ns - last_ns) / 1e9)
    WHEN end_ns - last_ns > 1000000000
      THEN printf('readings end %.1f s into the window of %.1f s', (last_ns - start_ns) / 1e9, (end_ns - start_ns) / 1e9)
    ELSE 'no reading at the begin of the window'
  END, '; ') AS why
FROM last GROUP BY run, cell_key;

-- one row per cell and class of meter (gpu, package, dram): energy of the measured window, gross and net of idle
CREATE VIEW live.energy AS
WITH classes AS (
  -- the meters of a class (two sockets) add up; where one of them is unknown the sum is
  SELECT run, cell_key, purpose, part, class, any_value(seconds) AS seconds, any_value(middle_ns) AS middle_ns,
    any_value(power_source) AS power_source, count(*) AS meters,
    CASE WHEN count(counter_mj) = count(*) THEN sum(counter_mj) END AS counter_mj,
    CASE WHEN count(integral_mj) = count(*) THEN sum(integral_mj) END AS integral_mj
  FROM batch.meter_energy GROUP BY ALL
),
chosen AS (
  SELECT *, CASE WHEN counter_mj > 0 THEN counter_mj ELSE integral_mj END AS gross_mj,
    CASE WHEN counter_mj > 0 THEN 'counter' WHEN integral_mj IS NOT NULL THEN 'integral' END AS basis
  FROM classes
),
idle AS (
  -- by the integral where there is one: a counter that steps every 100 ms is too coarse for the few seconds of idling
  SELECT run, cell_key, class, purpose, sum(coalesce(integral_mj, gross_mj)) / sum(seconds) AS mw, avg(middle_ns) AS middle_ns
  FROM chosen WHERE purpose <> 'measure' AND gross_mj IS NOT NULL GROUP BY ALL
),
levels AS (
  SELECT m.run, m.cell_key, m.class, before.mw AS before_mw, after.mw AS after_mw, without.mw AS without_context_mw,
    coalesce(
      before.mw + (after.mw - before.mw) * (m.middle_ns - before.middle_ns) / nullif(after.middle_ns - before.middle_ns, 0),
      after.mw, before.mw
    ) AS idle_mw
  FROM chosen AS m
  LEFT JOIN idle AS before ON (before.run, before.cell_key, before.class, before.purpose) = (m.run, m.cell_key, m.class, 'idle_before')
  LEFT JOIN idle AS after ON (after.run, after.cell_key, after.class, after.purpose) = (m.run, m.cell_key, m.class, 'idle')
  LEFT JOIN idle AS without
    ON (without.run, without.cell_key, without.class, without.purpose) = (m.run, m.cell_key, m.class, 'without_context')
  WHERE m.purpose = 'measure'
),
extents AS (
  -- how far the power moved in and around the window, and the longest time without a reading that touches the window
  SELECT w.run, w.cell_key, w.class, p.stream, max(p.power_mw) - min(p.power_mw) AS swing_mw,
    max(p.gap_ns) FILTER (p.t_ns >= w.start_ns AND p.t_ns - p.gap_ns < w.end_ns) / 1e9 AS gap_s
  FROM batch.power_cumulated AS p
  ASOF JOIN (SELECT *, start_ns - 200000000 AS from_ns FROM batch.energy_window WHERE purpose = 'measure') AS w
    ON p.stream = w.stream AND p.t_ns >= w.from_ns
  WHERE p.t_ns - coalesce(p.gap_ns, 0) < w.end_ns + 200000000 GROUP BY ALL
),
gaps AS (
  SELECT run, cell_key, class, max(gap_s) AS longest_gap_s, sum((0.2 + coalesce(gap_s, 0)) * swing_mw) AS uncertainty_mj
  FROM extents GROUP BY ALL
),
own AS (
  SELECT m.run, m.cell_key, m.class, m.meters, m.seconds, m.counter_mj / 1e3 AS counter_j, m.integral_mj / 1e3 AS integral_j,
    m.basis, m.power_source, m.gross_mj / 1e3 AS gross_j, idle_mw / 1e3 AS idle_w, before_mw / 1e3 AS idle_before_w,
    after_mw / 1e3 AS idle_after_w, without_context_mw / 1e3 AS idle_without_context_w,
    (m.gross_mj - idle_mw * m.seconds) / 1e3 AS net_j,
    batch.measured.n * items_of_row(cell.scenario, cell.batch_size, cell.items_per_sample) AS images, longest_gap_s, uncertainty_mj / 1e3 AS uncertainty_j,
    CASE
      WHEN m.counter_mj < 0 THEN 'the energy counter ran backwards within the window'
      WHEN m.counter_mj = 0 AND m.integral_mj > 0 THEN 'the energy counter stood still'
      WHEN abs(m.integral_mj / nullif(m.counter_mj, 0) - 1) > 0.05
        THEN printf('counter %.2f J and integral of power %.2f J differ by %.1f %%',
          m.counter_mj / 1e3, m.integral_mj / 1e3, 100 * abs(m.integral_mj / m.counter_mj - 1))
      WHEN gaps.longest_gap_s > greatest(1, 0.1 * m.seconds) THEN printf('no power reading for %.1f s', gaps.longest_gap_s)
    END AS suspect
  FROM chosen AS m
  JOIN batch.measured USING (run, cell_key)
  JOIN cell_row AS cell USING (run, cell_key)
  LEFT JOIN levels ON levels.run = m.run AND levels.cell_key = m.cell_key AND levels.class = m.class
  LEFT JOIN gaps ON gaps.run = m.run AND gaps.cell_key = m.cell_key AND gaps.class = m.class
  WHERE m.purpose = 'measure'
),
domains AS (
  SELECT run, cell_key, regexp_extract(domain, '^[a-z]+') AS class, domain, sum(energy_mj) / 1e3 AS gross_j,
    sum(time_ns) / 1e9 AS seconds, any_value(source) AS source, count(*) AS regions
  FROM energy_row WHERE run IN (FROM batch.run) GROUP BY ALL
),
passes AS (
  SELECT run, cell_key, avg(images) AS images FROM pass_row GROUP BY ALL
),
published AS (
  -- energies that an imported source measured itself: over all of its passes, no idle known
  SELECT run, cell_key, class, count(*) AS meters, avg(seconds) AS seconds, NULL AS counter_j, NULL AS integral_j,
    'published' AS basis, any_value(source) AS power_source, sum(gross_j) AS gross_j, NULL AS idle_w, NULL AS idle_before_w,
    NULL AS idle_after_w, NULL AS idle_without_context_w, NULL AS net_j,
    any_value(regions) * (SELECT avg(images) FROM pass_row AS p WHERE p.run = domains.run AND p.cell_key = domains.cell_key)
      AS images,
    NULL AS longest_gap_s, NULL AS uncertainty_j, NULL AS suspect
  FROM domains GROUP BY run, cell_key, class
)
SELECT run, cell_key, class, meters::BIGINT AS meters, seconds::DOUBLE AS seconds, counter_j::DOUBLE AS counter_j,
  integral_j::DOUBLE AS integral_j, basis::VARCHAR AS basis, power_source::VARCHAR AS power_source,
  gross_j::DOUBLE AS gross_j, idle_w::DOUBLE AS idle_w, idle_before_w::DOUBLE AS idle_before_w,
  idle_after_w::DOUBLE AS idle_after_w, idle_without_context_w::DOUBLE AS idle_without_context_w, net_j::DOUBLE AS net_j,
  images::DOUBLE AS images,
  longest_gap_s::DOUBLE AS longest_gap_s, uncertainty_j::DOUBLE AS uncertainty_j, suspect::VARCHAR AS suspect
FROM (FROM own UNION ALL BY NAME FROM published) WHERE gross_j IS NOT NULL OR suspect IS NOT NULL;
