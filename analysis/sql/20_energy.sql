-- Energy is computed here and in 25_energy_choice.sql, and nowhere else: here what the readings say of a window.
--
-- A window is the measured window of a cell, one of its idle phases, or a spell without a worker. For each meter (a GPU, a
-- CPU package, its DRAM) there are two energies of it:
--   counter_mj   by the energy counter, in one of these ways:
--       slope    the window was steady: the counter's slope between the mean of its readings in the first quarter of the
--                window and that of the last quarter, times the window. Nothing from outside of the window goes in, so
--                neither the drop to idle nor how late the board is can move it;
--       shaped   the power changed within the window: the same slope, taken over the integral of power in place of time;
--       ends     the power changed and no reading of power shows when (averages over a second, or none at all): the slope
--                between the means of the readings within 0.3 s of the first and of the last;
--       shared   too few readings within the window: the difference of the readings around it, shared out in proportion
--                to the power readings between them, however far apart they are;
--       line     the same without power readings: straight lines.
--     A counter that fell or stood still between the readings used tells nothing.
--   integral_mj  the trapezoid over the power readings, the last reading before each edge held up to the edge.
-- Neither is guessed: an edge without a reading on either side, or a last reading more than a second old, is NULL.
--
-- A reading of the counter is up to one of its steps late, by chance (100 ms on many boards). step_s is the scatter of the
-- readings around their course, pooled over the windows of a meter: what a mean of k of them is uncertain by is step_s by
-- the root of k. (slope and shaped are from group means: A. Wald, The fitting of straight lines if both variables are subject to error, Annals of
-- Mathematical Statistics 11 (1940); unlike least squares it holds where the power steps within the window.)

-- the meters of these runs, with the best power source that each has, and whether that tells averages over a second
CREATE OR REPLACE TABLE batch.meter AS
WITH found AS (
  SELECT run, stream, any_value(class) AS class, any_value(uuid) AS uuid, any_value(device) AS device, any_value(boot) AS boot,
    arg_min(coalesce(power_source, ''), coalesce(list_position(['instant', 'average', 'usage'], power_source), 9))
      FILTER (power_mw IS NOT NULL) AS source,
    count(power_mw) + count(energy_mj) > 0 AS tells_energy
  FROM batch.reading GROUP BY run, stream
)
SELECT found.*,
  -- after NVML's documentation: nvmlDeviceGetPowerUsage is an average over a second on Ampere (but GA100, 8.0) and newer;
  -- of a board whose generation is unknown the worse is taken
  coalesce(source ^@ 'average' OR (source ^@ 'usage' AND coalesce(try_cast(gpu.compute_capability AS DOUBLE), 99) > 8.0), false)
    AS averaging,
  -- whether that is documented, and not only feared
  coalesce(source ^@ 'average' OR try_cast(gpu.compute_capability AS DOUBLE) > 8.0, false) AS averaging_known
FROM found LEFT JOIN run_device AS gpu ON gpu.run = found.run AND gpu.uuid = found.uuid;

-- windows of cells, of their idle phases and of their run's spells without a worker, with the meters of the cell's device.
-- Readings are late, so the first half second of an idle phase (at most half of it) does not count; where the board tells
-- averages over a second, the first 1.5 s, and a shorter phase tells nothing.
-- warm_ns: when the load began before a measured window; quiet_ns, quiet_end_ns: the idle phase after it
CREATE OR REPLACE TABLE batch.energy_window AS
WITH cell AS (
  SELECT c.run, c.cell_key, c.device, c.device_uuid, b.boot FROM cell_row AS c LEFT JOIN cell_boot AS b USING (run, cell_key)
),
owned AS (
  -- a meter of the same boot: the clock of another one began elsewhere
  SELECT cell.run, cell.cell_key, meter.stream, meter.class, meter.averaging
  FROM cell JOIN batch.meter AS meter ON meter.run = cell.run AND meter.boot IS NOT DISTINCT FROM cell.boot AND meter.class <> 'gpu'
  UNION ALL
  SELECT cell.run, cell.cell_key, meter.stream, meter.class, meter.averaging
  FROM cell JOIN batch.meter AS meter ON meter.run = cell.run AND meter.boot IS NOT DISTINCT FROM cell.boot
    AND meter.class = 'gpu' AND meter.uuid = cell.device_uuid
  UNION ALL
  SELECT cell.run, cell.cell_key, meter.stream, meter.class, meter.averaging
  FROM cell JOIN batch.meter AS meter ON meter.run = cell.run AND meter.boot IS NOT DISTINCT FROM cell.boot
    AND meter.class = 'gpu' AND 'gpu' || meter.device = cell.device AND coalesce(meter.uuid, cell.device_uuid) IS NULL
),
around AS (
  SELECT run, cell_key, min(start_ns) FILTER (phase = 'warmup') AS warm_ns, min(start_ns) FILTER (phase = 'idle') AS quiet_ns,
    max(end_ns) FILTER (phase = 'idle') AS quiet_end_ns
  FROM phase_row WHERE run IN (FROM batch.run) GROUP BY ALL
)
SELECT m.run, m.cell_key, 'measure' AS purpose, 0 AS part, window_start_ns AS start_ns, window_end_ns AS end_ns, stream, class,
  averaging, warm_ns, quiet_ns, quiet_end_ns
FROM batch.measured AS m JOIN owned USING (run, cell_key) LEFT JOIN around USING (run, cell_key)
WHERE window_end_ns > window_start_ns
UNION ALL
SELECT p.run, p.cell_key, p.phase, row_number() OVER (PARTITION BY p.run, p.cell_key, p.phase, stream ORDER BY start_ns),
  start_ns + CASE WHEN averaging THEN 1500000000 ELSE least(500000000, (end_ns - start_ns) // 2) END AS from_ns,
  end_ns, stream, class, averaging, NULL, NULL, NULL
FROM phase_row AS p JOIN owned USING (run, cell_key)
WHERE p.phase IN ('idle_before', 'idle') AND p.run IN (FROM batch.run) AND end_ns > from_ns
UNION ALL
SELECT cell.run, cell.cell_key, 'without_context', row_number() OVER (PARTITION BY cell.run, cell.cell_key, stream ORDER BY start_ns),
  start_ns, end_ns, stream, class, averaging, NULL, NULL, NULL
FROM idle_spell AS spell JOIN cell ON cell.run = spell.run AND cell.device = spell.device AND cell.boot IS NOT DISTINCT FROM spell.boot
JOIN owned ON owned.run = cell.run AND owned.cell_key = cell.cell_key
WHERE end_ns > start_ns AND cell.run IN (FROM batch.run);

-- power readings with the energy since the meter's first reading, of the best of its power sources
CREATE OR REPLACE TABLE batch.power_cumulated AS SELECT * EXCLUDE (run) FROM cumulated_power('batch.reading');

-- the integral of power (mj) and the reading in force (mw) at the instants that 25_energy_choice.sql compares:
-- s and e: k tenths of a second from the window's begin and end; w: when the load began before it; f: k tenths of a second
-- after the load had ended; z: the end of that idle phase; q: quarters of an idle phase
CREATE OR REPLACE TABLE batch.instant AS
WITH asked AS (
  SELECT run, cell_key, purpose, part, stream, 's' AS name, k, start_ns + k * 100000000 AS at_ns
  FROM batch.energy_window, (SELECT unnest([-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 10]) AS k) WHERE purpose = 'measure'
  UNION ALL
  SELECT run, cell_key, purpose, part, stream, 'e', k, end_ns + k * 100000000
  FROM batch.energy_window, (SELECT unnest(range(-6, 7)) AS k) WHERE purpose = 'measure'
  UNION ALL
  SELECT run, cell_key, purpose, part, stream, 'w', 0, warm_ns FROM batch.energy_window WHERE warm_ns IS NOT NULL
  UNION ALL
  SELECT run, cell_key, purpose, part, stream, 'f', k, quiet_ns + k * 100000000
  FROM batch.energy_window, (SELECT unnest(range(0, 10)) AS k) WHERE quiet_ns + k * 100000000 < quiet_end_ns
  UNION ALL
  SELECT run, cell_key, purpose, part, stream, 'z', 0, quiet_end_ns FROM batch.energy_window WHERE quiet_end_ns IS NOT NULL
  UNION ALL
  SELECT run, cell_key, purpose, part, stream, 'q', k, start_ns + k * (end_ns - start_ns) // 4
  FROM batch.energy_window, (SELECT unnest(range(0, 5)) AS k) WHERE purpose <> 'measure'
)
SELECT asked.* EXCLUDE (at_ns), p.cumulated_mj + p.power_mw * (at_ns - p.t_ns) / 1e9 AS mj, p.power_mw AS mw, at_ns - p.t_ns AS age_ns
FROM asked ASOF JOIN batch.power_cumulated AS p ON p.stream = asked.stream AND asked.at_ns >= p.t_ns
WHERE age_ns <= 1000000000;

-- every reading of the counter beside the integral of power; falls: how often it had fallen by then; still_ns: for how long
-- it had reported the same; holes: how often the power readings had been away for a quarter of a second by then
CREATE OR REPLACE TABLE batch.counter_reading AS
WITH every AS (
  SELECT reading.stream, reading.t_ns, reading.energy_mj, power.cumulated_mj, power.power_mw,
    lag(reading.energy_mj) OVER (PARTITION BY reading.stream ORDER BY reading.t_ns) AS before_mj, power.holes
  FROM batch.reading AS reading LEFT JOIN (
    SELECT *, count(*) FILTER (gap_ns > 250000000) OVER (PARTITION BY stream ORDER BY t_ns) AS holes FROM batch.power_cumulated
  ) AS power USING (stream, t_ns)
  WHERE reading.energy_mj IS NOT NULL
)
SELECT stream, t_ns, energy_mj, cumulated_mj, power_mw, energy_mj <> before_mj AS stepped, holes,
  count(*) FILTER (energy_mj < before_mj) OVER past AS falls,
  t_ns - max(t_ns) FILTER (energy_mj IS DISTINCT FROM before_mj) OVER past AS still_ns
FROM every WINDOW past AS (PARTITION BY stream ORDER BY t_ns ROWS UNBOUNDED PRECEDING);

-- the counter within each measured window: means of its readings in the first quarter (1), the middle (m) and the last
-- quarter (2), energies less those of the first reading. A reading up to 0.15 s before the window is taken too: the sidecar
-- makes one there on purpose, and the load has been running for a while.
CREATE OR REPLACE TABLE batch.counter_within AS
WITH within AS (
  SELECT w.run, w.cell_key, w.stream, w.start_ns, w.end_ns, c.t_ns, c.falls, c.still_ns,
    first(c.t_ns) OVER part AS first_ns, last(c.t_ns) OVER part AS last_ns,
    c.energy_mj - first(c.energy_mj) OVER part AS mj, c.cumulated_mj - first(c.cumulated_mj) OVER part AS shape_mj,
    CASE WHEN c.t_ns < w.start_ns + (w.end_ns - w.start_ns) / 4 THEN 1 WHEN c.t_ns > w.end_ns - (w.end_ns - w.start_ns) / 4 THEN 3
      ELSE 2 END AS third
  FROM batch.counter_reading AS c
  ASOF JOIN (SELECT *, start_ns - 150000000 AS from_ns FROM batch.energy_window WHERE purpose = 'measure') AS w
    ON w.stream = c.stream AND c.t_ns >= w.from_ns
  WHERE c.t_ns <= w.end_ns
  WINDOW part AS (PARTITION BY w.run, w.cell_key, w.stream ORDER BY c.t_ns ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
),
sums AS (
  SELECT run, cell_key, stream, count(*) AS n, max(falls) - min(falls) AS falls, max(still_ns) AS still_ns,
    greatest(min(t_ns) - any_value(start_ns), any_value(end_ns) - max(t_ns)) / 1e9 AS uncovered_s,
    count(*) FILTER (third = 1) AS k1, count(*) FILTER (third = 3) AS k2,
    avg((t_ns - start_ns) / 1e9) FILTER (third = 1) AS t1, avg((t_ns - start_ns) / 1e9) FILTER (third = 2) AS tm,
    avg((t_ns - start_ns) / 1e9) FILTER (third = 3) AS t2,
    -- of the readings within 0.3 s of the first and of the last
    avg((t_ns - start_ns) / 1e9) FILTER (t_ns <= first_ns + 300000000) AS ta, avg((t_ns - start_ns) / 1e9) FILTER (t_ns >= last_ns - 300000000) AS tz,
    avg(mj) FILTER (t_ns <= first_ns + 300000000) AS ca, avg(mj) FILTER (t_ns >= last_ns - 300000000) AS cz,
    least(count(*) FILTER (t_ns <= first_ns + 300000000), count(*) FILTER (t_ns >= last_ns - 300000000)) AS ka,
    avg(mj) FILTER (third = 1) AS c1, avg(mj) FILTER (third = 2) AS cm, avg(mj) FILTER (third = 3) AS c2,
    avg(shape_mj) FILTER (third = 1) AS i1, avg(shape_mj) FILTER (third = 3) AS i2,
    greatest(0, regr_syy(mj, shape_mj) - regr_sxy(mj, shape_mj) ** 2 / nullif(regr_sxx(mj, shape_mj), 0)) AS scatter_mj2
  FROM within GROUP BY run, cell_key, stream
),
sloped AS (SELECT *, (c2 - c1) / (t2 - t1) AS slope_mw, scatter_mj2 / nullif(slope_mw, 0) ** 2 AS scatter_s2 FROM sums)
SELECT *,
  -- before any is known: readings late by up to 100 ms (RAPL: some ms), evenly spread; which counts for four windows' worth
  CASE WHEN stream NOT LIKE '%|gpu|%' THEN 0.002 ELSE sqrt(
    (16 * 0.1 ** 2 / 12 + coalesce(sum(scatter_s2) FILTER (n >= 4 AND falls = 0) OVER meter, 0))
    / (16 + coalesce(sum(n - 2) FILTER (n >= 4 AND falls = 0 AND scatter_s2 IS NOT NULL) OVER meter, 0))
  ) END AS step_s
FROM sloped WINDOW meter AS (PARTITION BY stream);

-- both energies of every window on every meter
CREATE OR REPLACE TABLE batch.meter_energy AS
WITH
stepped AS (FROM batch.counter_reading WHERE stepped),
begin_before AS (
  SELECT w.*, c.t_ns AS b0_ns, c.energy_mj AS b0_mj, c.cumulated_mj AS b0_shape_mj, c.power_mw AS b0_mw, c.falls AS b0_falls
  FROM batch.energy_window AS w ASOF LEFT JOIN stepped AS c ON c.stream = w.stream AND w.start_ns >= c.t_ns
),
begin_after AS (
  SELECT w.*, c.t_ns AS b1_ns, c.energy_mj AS b1_mj
  FROM begin_before AS w ASOF LEFT JOIN stepped AS c ON c.stream = w.stream AND w.start_ns <= c.t_ns
),
end_before AS (
  SELECT w.*, c.t_ns AS e0_ns, c.energy_mj AS e0_mj
  FROM begin_after AS w ASOF LEFT JOIN stepped AS c ON c.stream = w.stream AND w.end_ns >= c.t_ns
),
end_after AS (
  SELECT w.*, c.t_ns AS e1_ns, c.energy_mj AS e1_mj, c.cumulated_mj AS e1_shape_mj, c.power_mw AS e1_mw, c.falls AS e1_falls
  FROM end_before AS w ASOF LEFT JOIN stepped AS c ON c.stream = w.stream AND w.end_ns <= c.t_ns
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
),
integrated AS (
  SELECT *, (end_ns - start_ns) / 1e9 AS seconds,
    CASE
      WHEN end_ns - p2_ns > 1000000000 THEN NULL
      WHEN p1_ns <= end_ns AND coalesce(start_ns - p0_ns, 0) <= 1000000000 AND (p0_ns IS NOT NULL OR p1_ns - start_ns <= 1000000000)
        THEN (coalesce(p0_mw, p1_mw) + p1_mw) / 2 * (p1_ns - start_ns) / 1e9
          + (p2_mj - p1_mj) + p2_mw * (end_ns - p2_ns) / 1e9
      WHEN start_ns - p0_ns <= 1000000000 THEN p0_mw * (end_ns - start_ns) / 1e9
    END AS integral_mj
  FROM power_last
),
candidates AS (
  SELECT w.*, c.n, c.k1, c.k2, c.t1, c.t2, c.ka, c.ta, c.tz, c.uncovered_s, c.slope_mw, c.step_s, c.falls, c.still_ns,
    ((c.cm - c.c1) / nullif(c.tm - c.t1, 0) - (c.c2 - c.cm) / nullif(c.t2 - c.tm, 0)) AS bend_mw,
    CASE WHEN c.n >= 3 AND c.t2 - c.t1 >= 0.5 * seconds THEN c.slope_mw * seconds END AS slope_mj,
    CASE WHEN c.n >= 3 AND c.t2 - c.t1 >= 0.5 * seconds THEN (c.c2 - c.c1) / nullif(c.i2 - c.i1, 0) * integral_mj END AS shaped_mj,
    CASE WHEN c.n >= 3 AND c.tz - c.ta >= 0.5 * seconds THEN (c.cz - c.ca) / (c.tz - c.ta) * seconds END AS ends_mj,
    CASE WHEN w.start_ns - b0_ns <= 10000000000 AND e1_ns - w.end_ns <= 10000000000
      THEN (e1_mj - b0_mj) * integral_mj / nullif(e1_shape_mj - b0_shape_mj, 0) END AS shared_mj,
    CASE WHEN b1_ns - b0_ns <= 2000000000 AND e1_ns - e0_ns <= 2000000000 THEN
      (CASE WHEN e1_ns > e0_ns THEN e0_mj + (e1_mj - e0_mj) * (end_ns - e0_ns) / (e1_ns - e0_ns) ELSE e0_mj END)
      - (CASE WHEN b1_ns > b0_ns THEN b0_mj + (b1_mj - b0_mj) * (start_ns - b0_ns) / (b1_ns - b0_ns) ELSE b0_mj END)
    END AS line_mj,
    e1_falls - b0_falls AS falls_around
  FROM integrated AS w LEFT JOIN batch.counter_within AS c
    ON purpose = 'measure' AND c.run = w.run AND c.cell_key = w.cell_key AND c.stream = w.stream
),
decided AS (
  -- a counter tells nothing where it fell between the readings used, or reported the same for a quarter of a second
  SELECT *, CASE
      WHEN purpose <> 'measure' THEN CASE WHEN line_mj >= 0 AND falls_around = 0 THEN 'line' END
      WHEN falls > 0 OR (class = 'gpu' AND still_ns >= 250000000) THEN NULL
      -- nothing read the counter after the window: it need not have gone on until its end
      WHEN class = 'gpu' AND e1_ns IS NULL THEN NULL
      WHEN slope_mj > 0 AND abs(slope_mj / nullif(CASE WHEN averaging OR shaped_mj IS NULL THEN ends_mj ELSE shaped_mj END, 0) - 1) <= 0.005
        THEN 'slope'
      WHEN shaped_mj > 0 AND NOT averaging THEN 'shaped'
      WHEN ends_mj > 0 THEN 'ends'
      WHEN falls_around > 0 THEN NULL
      WHEN shared_mj > 0 THEN 'shared'
      WHEN line_mj > 0 THEN 'line'
    END AS method,
    CASE
      WHEN purpose <> 'measure' THEN NULL
      WHEN falls > 0 OR (method IS NULL AND falls_around > 0) THEN 'the energy counter ran backwards within the window'
      WHEN method IS NULL AND (still_ns >= 250000000 OR line_mj = 0) THEN 'the energy counter stood still'
    END AS trouble
  FROM candidates
)
SELECT run, cell_key, purpose, part, class, stream, start_ns, end_ns, seconds, (start_ns + end_ns) // 2 AS middle_ns, power_source, averaging,
  warm_ns, method, trouble, integral_mj, slope_mj, shaped_mj, step_s, k1, k2, t1, t2, ka, ta, tz, uncovered_s, bend_mw, b0_mw, e1_mw, p0_mw,
  CASE method WHEN 'slope' THEN slope_mj WHEN 'shaped' THEN shaped_mj WHEN 'ends' THEN ends_mj WHEN 'shared' THEN shared_mj WHEN 'line' THEN line_mj END AS counter_mj
FROM decided;
