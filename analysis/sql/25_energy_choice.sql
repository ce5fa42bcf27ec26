-- Which of a window's energies (20_energy.sql) is taken, how uncertain it is, and what of it is idling.
--
-- uncertainty_j bounds the error of gross_j. It adds up
--   step     2.5 times the standard error that the steps of the counter leave (step_s by the root of the number of readings);
--   late     what a board that is up to 0.6 s late can move (a step of 100 ms, and 0.5 s beside it): the most that the
--            integral of power changes when the window is shifted by up to that to earlier times. A window that is as the
--            warm-up before it makes this small. Where the power fell 0.2 s or more after the load had ended the board is late indeed,
--            and may hide what happened at the window's end: shifts to later times count too, as far as the load was still seen;
--   average  where power is an average over a second: 1.25 s (with a counter 2.5 s; the last reading is up to a step old too) times the difference between
--            the first and the last second of the window, and what a warm-up below a second leaves in the average at the window's begin;
--   hole     power readings missing for more than 0.12 s at the edges (without a counter: anywhere) times how far power moved; without a
--            counter also the longest gap times how far it moved at the window's begin;
--   shape    what steady and shaped differ by, where the power readings cannot tell which one is right;
--   alias    boards may look at a quarter of the time only, 25 ms of each 100 ms (Z. Yang, K. Adamek, W. Armour, Part-time
--            power measurements, SC 2024): a load that repeats in step with that is seen at the same place each time. From the mean period of the
--            inferences and its scatter: the share of the first three harmonics of half-time work that 25 ms do not average
--            out and that the looks of a window do not either, times the power above idle. Below 20 ms it is left out.
-- The sensor's gain (some 5 %) is in none of it. net_uncertainty_j adds what the idle level is uncertain by.
--
-- Idle power with the worker's context open is measured before warm-up and after the window. A board that warms up under
-- load draws more when it idles afterwards; during the window it drew what lies between. idle_w is therefore the straight
-- line through both, read at the middle of the window; where one of them is unknown (runs of older versions have no idle
-- phase before the window) it is the other. idle_without_context_w is that of the run's spells without a worker.
-- A level that still falls is not yet idling: the second half of the phase is taken where the halves differ by more than
-- 1.5 % of the load (and 2 % of the level), and none where its own halves do. Nor is one known in which readings are missing for 0.25 s.

-- one row per cell whose window was to be metered and is not: readings ended before it did, or have a hole at its edges
INSERT INTO unmetered BY NAME
WITH missed AS (
  SELECT w.run, w.cell_key, w.class, w.stream, w.start_ns, w.end_ns, m.trouble
  FROM batch.energy_window AS w JOIN batch.meter_energy AS m USING (run, cell_key, purpose, part, stream)
  JOIN batch.meter ON batch.meter.stream = w.stream
  WHERE w.purpose = 'measure' AND m.counter_mj IS NULL AND m.integral_mj IS NULL AND batch.meter.tells_energy
),
last AS (
  SELECT missed.*, r.t_ns AS last_ns
  FROM missed ASOF LEFT JOIN (SELECT stream, t_ns FROM batch.reading) AS r ON r.stream = missed.stream AND missed.end_ns >= r.t_ns
)
SELECT run, cell_key, string_agg(DISTINCT class || ': ' || CASE
    WHEN trouble IS NOT NULL THEN trouble
    WHEN last_ns IS NULL THEN 'readings begin after the window'
    WHEN last_ns < start_ns THEN printf('readings end %.1f s before the window', (start_ns - last_ns) / 1e9)
    WHEN end_ns - last_ns > 1000000000
      THEN printf('readings end %.1f s into the window of %.1f s', (last_ns - start_ns) / 1e9, (end_ns - start_ns) / 1e9)
    ELSE 'no reading at the begin of the window'
  END, '; ') AS why
FROM last GROUP BY run, cell_key;

-- idle levels by the integral of power
CREATE OR REPLACE TABLE batch.idle_level AS
WITH quarters AS (
  SELECT w.run, w.cell_key, w.purpose, w.part, w.stream, w.class, any_value((w.start_ns + w.end_ns) // 2) AS middle_ns,
    any_value((w.end_ns - w.start_ns) / 1e9) AS seconds, max(age_ns) AS age_ns, count(*) AS known,
    max(mj) FILTER (k = 0) AS q0, max(mj) FILTER (k = 1) AS q1, max(mj) FILTER (k = 2) AS q2, max(mj) FILTER (k = 3) AS q3,
    max(mj) FILTER (k = 4) AS q4
  FROM batch.energy_window AS w JOIN batch.instant AS i USING (run, cell_key, purpose, part, stream)
  WHERE w.purpose <> 'measure' GROUP BY ALL
),
loads AS (
  SELECT run, cell_key, stream, integral_mj / seconds AS load_mw FROM batch.meter_energy WHERE purpose = 'measure'
),
judged AS (
  SELECT q.*, (q4 - q2) / (seconds / 2) AS second_mw, greatest(0.015 * (load_mw - second_mw), 0.02 * second_mw) AS slack_mw
  FROM quarters AS q LEFT JOIN loads USING (run, cell_key, stream)
)
SELECT run, cell_key, purpose, part, stream, class, middle_ns, seconds, CASE
    WHEN known < 5 OR (purpose <> 'without_context' AND age_ns > 250000000) THEN NULL
    WHEN purpose = 'without_context' OR slack_mw IS NULL THEN (q4 - q0) / seconds
    WHEN abs((q4 - q3) - (q3 - q2)) / (seconds / 4) > slack_mw THEN NULL
    WHEN abs((q4 - q2) - (q2 - q0)) / (seconds / 2) > slack_mw THEN second_mw
    ELSE (q4 - q0) / seconds
  END AS mw
FROM judged;

-- how far power moved in and around each measured window, the longest time without a reading that touches it, and the
-- standard error of its mean: from the differences of successive values, so that a trend does not count as noise
CREATE OR REPLACE TABLE batch.extent AS
SELECT w.run, w.cell_key, w.stream, max(p.power_mw) - min(p.power_mw) AS swing_mw,
  max(p.gap_ns) FILTER (p.t_ns >= w.start_ns AND p.t_ns - p.gap_ns < w.end_ns) / 1e9 AS gap_s,
  sqrt(avg(p.step_mw ** 2 / 2) FILTER (p.step_mw <> 0 AND p.t_ns BETWEEN w.start_ns AND w.end_ns)
    / count(*) FILTER (p.step_mw <> 0 AND p.t_ns BETWEEN w.start_ns AND w.end_ns)) AS noise_mw
FROM (
  SELECT *, power_mw - lag(power_mw) OVER (PARTITION BY stream ORDER BY t_ns) AS step_mw FROM batch.power_cumulated
) AS p
ASOF JOIN (SELECT *, start_ns - 200000000 AS from_ns FROM batch.energy_window WHERE purpose = 'measure') AS w
  ON p.stream = w.stream AND p.t_ns >= w.from_ns
WHERE p.t_ns - coalesce(p.gap_ns, 0) < w.end_ns + 200000000 GROUP BY ALL;

-- the window shifted in time, and power at the instants around it
CREATE OR REPLACE TABLE batch.shift AS
WITH pairs AS (
  SELECT run, cell_key, stream, k, max(mj) FILTER (name = 'e') - max(mj) FILTER (name = 's') AS mj
  FROM batch.instant WHERE purpose = 'measure' AND name IN ('s', 'e') GROUP BY ALL
),
levels AS (
  SELECT run, cell_key, stream,
    max(mw) FILTER (name = 's' AND k = 0) AS begin_mw, max(mw) FILTER (name = 's' AND k = 10) AS first_mw,
    max(mw) FILTER (name = 's' AND k = 2) - max(mw) FILTER (name = 's' AND k = -2) AS rise_mw,
    max(mw) FILTER (name = 'e' AND k = 0) AS end_mw, max(mw) FILTER (name = 'w') AS cold_mw, max(mw) FILTER (name = 'z') AS quiet_mw
  FROM batch.instant WHERE purpose = 'measure' GROUP BY ALL
),
falls AS (
  -- the last tenth of a second after the load at which it was still seen in the readings
  SELECT i.run, i.cell_key, i.stream, max(k) AS last_k
  FROM batch.instant AS i JOIN levels USING (run, cell_key, stream)
  WHERE i.name = 'f' AND i.mw > quiet_mw + 0.2 * (end_mw - quiet_mw) AND end_mw > 1.1 * quiet_mw GROUP BY ALL
)
SELECT levels.*, coalesce(falls.last_k, 0) AS last_k, shifted.* EXCLUDE (run, cell_key, stream)
FROM levels LEFT JOIN falls USING (run, cell_key, stream) LEFT JOIN (
  SELECT pairs.run, pairs.cell_key, pairs.stream,
    max(abs(pairs.mj - own.mj)) FILTER (pairs.k < 0) AS earlier_mj,
    max(abs(pairs.mj - own.mj)) FILTER (pairs.k > 0 AND f.last_k >= 2 AND pairs.k <= f.last_k) * (1 + 1 / max(f.last_k)) AS later_mj
  FROM pairs JOIN pairs AS own ON own.run = pairs.run AND own.cell_key = pairs.cell_key AND own.stream = pairs.stream AND own.k = 0
  LEFT JOIN falls AS f ON f.run = pairs.run AND f.cell_key = pairs.cell_key AND f.stream = pairs.stream
  GROUP BY ALL
) AS shifted ON shifted.run = levels.run AND shifted.cell_key = levels.cell_key AND shifted.stream = levels.stream;

-- what the looks of a part-time sensor may miss of each cell, as a share of the power above idle
CREATE OR REPLACE TABLE batch.alias AS
WITH periods AS (
  SELECT m.run, m.cell_key, (window_end_ns - window_start_ns) / 1e9 AS seconds, seconds / m.n * coalesce(c.streams, 1) AS period_s,
    m.scatter_ns / 1e9 / period_s AS scatter, 0.1 / period_s AS turns, seconds / 0.1 AS looks
  FROM batch.measured AS m JOIN cell_row AS c USING (run, cell_key)
  WHERE c.scenario <> 'server' AND m.n >= 2 AND c.device <> 'cpu'
),
harmonics AS (
  SELECT *, exp(-2 * (pi() * k * scatter) ** 2 * turns) AS coherence, cos(2 * pi() * k * turns) AS cosine,
    0.64 / k * abs(sin(pi() * k * 0.025 / period_s) / (pi() * k * 0.025 / period_s)) AS unaveraged
  FROM periods, (SELECT unnest([1, 2, 3]) AS k) WHERE period_s >= 0.02
)
SELECT run, cell_key, sum(unaveraged * least(1, sqrt(greatest(0, (1 - coherence ** 2)
    / greatest(1e-12, 1 - 2 * coherence * cosine + coherence ** 2) / looks)) + 1 / (looks * sqrt(2 * (1 - cosine)) + 1e-9))) AS share
FROM harmonics GROUP BY run, cell_key;

-- how the counter of each meter relates to the integral of its power over all of the run's readings. Chains of readings that
-- miss nothing telescope, so that only their first and last readings are late by chance, mostly at idle power.
-- ratio: counter over integral; doubt: the share that it is uncertain by; spread: the standard deviation of it between windows
-- beyond what steps of the counter and noise of the power explain. A meter without such readings has no row.
CREATE OR REPLACE TABLE batch.calibration AS
WITH every AS (
  SELECT stream, t_ns, energy_mj, cumulated_mj, power_mw,
    coalesce(t_ns - lag(t_ns) OVER meter > 2000000000 OR falls <> lag(falls) OVER meter OR holes <> lag(holes) OVER meter
      OR (NOT stepped AND still_ns >= 250000000), true) AS begins
  FROM batch.counter_reading WHERE cumulated_mj IS NOT NULL WINDOW meter AS (PARTITION BY stream ORDER BY t_ns)
),
chain AS (
  SELECT stream, max(energy_mj) - min(energy_mj) AS counter_mj, max(cumulated_mj) - min(cumulated_mj) AS integral_mj,
    arg_min(power_mw, t_ns) AS first_mw, arg_max(power_mw, t_ns) AS last_mw
  FROM (SELECT *, sum(begins::INTEGER) OVER (PARTITION BY stream ORDER BY t_ns) AS number FROM every)
  GROUP BY stream, number HAVING count(*) >= 2
),
meter AS (
  SELECT stream, sum(counter_mj) / nullif(sum(integral_mj), 0) AS ratio, sqrt(sum(first_mw ** 2 + last_mw ** 2)) / sum(counter_mj) AS ends_per_s,
    -- how late the board is, is the same for all chains
    0.6 * abs(sum(last_mw - first_mw)) / sum(counter_mj) AS late
  FROM chain GROUP BY stream HAVING sum(counter_mj) > 0
),
windows AS (
  SELECT stream, any_value(step_s) AS step_s, avg((shaped_mj / nullif(ratio * integral_mj, 0) - 1) ** 2) AS found,
    avg(step_s ** 2 * (1 / k1 + 1 / k2) / (t2 - t1) ** 2 + (coalesce(noise_mw, 0) * seconds / integral_mj) ** 2 + (coalesce(share, 0) / 2.5) ** 2)
      AS expected
  FROM batch.meter_energy AS m JOIN meter USING (stream) LEFT JOIN batch.extent USING (run, cell_key, stream) LEFT JOIN batch.alias USING (run, cell_key)
  WHERE purpose = 'measure' AND m.method IS NOT NULL AND shaped_mj IS NOT NULL AND integral_mj > 0 GROUP BY stream
)
SELECT stream, ratio, 2.5 * step_s * ends_per_s + late AS doubt, sqrt(greatest(0, found - expected)) AS spread
FROM meter JOIN windows USING (stream) WHERE ratio BETWEEN 0.95 AND 1.05;

-- the energy of each measured window on each meter, and its uncertainty
CREATE OR REPLACE TABLE batch.metered AS
WITH known AS (
  SELECT m.*, s.* EXCLUDE (run, cell_key, stream), coalesce(x.swing_mw, 0) AS swing_mw, x.gap_s, x.noise_mw,
    CASE WHEN NOT averaging AND method IS NOT NULL THEN ratio * integral_mj END AS scaled_mj, doubt, spread,
    coalesce(alias.share, 0) AS alias_share,
    -- half a second of what an average over a second still shows of the first second, and not yet of the last
    CASE WHEN averaging AND averaging_known THEN 0.5 * (end_mw - first_mw) END AS tail_mj,
    abs(first_mw - begin_mw) AS begun_mw,
    least(1, abs(first_mw - begin_mw) / nullif(abs(first_mw - coalesce(cold_mw, 0)), 0)) AS begun_share
  FROM batch.meter_energy AS m
  LEFT JOIN batch.shift AS s ON s.run = m.run AND s.cell_key = m.cell_key AND s.stream = m.stream
  LEFT JOIN batch.extent AS x ON x.run = m.run AND x.cell_key = m.cell_key AND x.stream = m.stream
  JOIN (SELECT stream, averaging_known FROM batch.meter) AS meter ON meter.stream = m.stream
  LEFT JOIN batch.calibration AS calibration ON calibration.stream = m.stream
  LEFT JOIN batch.alias AS alias ON alias.run = m.run AND alias.cell_key = m.cell_key AND m.class = 'gpu'
  WHERE m.purpose = 'measure'
),
taken AS (
  SELECT * EXCLUDE (integral_mj), integral_mj + coalesce(tail_mj, 0) AS integral_mj,
    CASE WHEN counter_mj > 0 THEN counter_mj ELSE integral_mj + coalesce(tail_mj, 0) END AS gross_mj,
    CASE WHEN counter_mj > 0 THEN method ELSE 'integral' END AS taken_method
  FROM known
),
parts AS (
  SELECT *,
    CASE taken_method
      WHEN 'slope' THEN 2.5 * step_s * sqrt(1 / k1 + 1 / k2) * gross_mj / (t2 - t1)
      WHEN 'shaped' THEN 2.5 * step_s * sqrt(1 / k1 + 1 / k2) * gross_mj / (t2 - t1)
      WHEN 'ends' THEN 2.5 * step_s * sqrt(2 / ka) * gross_mj / (tz - ta)
      WHEN 'integral' THEN 0
      ELSE 2.5 * sqrt(2) * CASE WHEN class = 'gpu' THEN 0.0289 ELSE 0.002 END * gross_mj / seconds
        + CASE WHEN class <> 'gpu' THEN 0 WHEN taken_method = 'line' THEN 0.6 * gross_mj / seconds ELSE 0.6 * abs(b0_mw - e1_mw) END
    END AS step_mj,
    CASE
      WHEN class <> 'gpu' THEN 0
      WHEN averaging AND taken_method = 'integral' THEN 1.25 * abs(end_mw - first_mw) + begun_mw
        * CASE WHEN warm_ns IS NULL THEN 1 - begun_share / 2 ELSE begun_share / 2 END
      WHEN averaging THEN 2.5 * abs(end_mw - first_mw) + 0.6 * begun_mw * CASE WHEN warm_ns IS NULL THEN 1 ELSE begun_share END
      WHEN taken_method IN ('slope', 'ends') AND integral_mj IS NULL THEN 1.2 * coalesce(abs(bend_mw), gross_mj / seconds)
      ELSE shifted_mj
    END AS late_mj,
    swing_mw * greatest(0, CASE WHEN taken_method IN ('slope', 'shaped', 'ends') THEN least(uncovered_s, gap_s) ELSE coalesce(gap_s, 0) END - 0.12)
      + CASE WHEN taken_method = 'integral' THEN coalesce(gap_s * abs(rise_mw), 0) ELSE 0 END AS hole_mj,
    CASE WHEN averaging OR taken_method NOT IN ('slope', 'shaped') OR shaped_mj IS NULL THEN 0 ELSE 0.2 * abs(slope_mj - shaped_mj) END AS shape_mj,
    alias_share * greatest(0, gross_mj - coalesce(quiet_mw, cold_mw, 0) * seconds) AS alias_mj
  FROM (
    -- a window not much longer than the lateness may have missed most of what it would be shifted by
    SELECT *, coalesce(earlier_mj, 0.6 * swing_mw) + coalesce(later_mj, 0)
      + CASE WHEN seconds < 2 THEN (0.2 + coalesce(gap_s, 0)) * swing_mw ELSE 0 END AS shifted_mj
    FROM taken
  )
),
bounds AS (
  -- of the counter: what chance leaves (its steps), and the rest; of the scaled integral: noise and spread, and the rest
  SELECT *, coalesce(late_mj, 0) + coalesce(hole_mj, 0) + shape_mj + alias_mj AS counter_rest_mj,
    2.5 * sqrt((noise_mw * seconds) ** 2 + (spread * scaled_mj) ** 2) AS noise_mj,
    greatest(shifted_mj, late_mj) + swing_mw * greatest(0, coalesce(gap_s, 0) - 0.12) + coalesce(gap_s * abs(rise_mw), 0) + shape_mj + alias_mj
      + doubt * scaled_mj AS scaled_rest_mj
  FROM parts
),
judged AS (
  SELECT *, step_mj + counter_rest_mj AS own_mj, abs(scaled_mj - gross_mj) + noise_mj + scaled_rest_mj AS agreed_mj,
    -- errors of the two have nothing in common but the rest
    step_mj * noise_mj / nullif(sqrt(step_mj ** 2 + noise_mj ** 2), 0) + scaled_rest_mj AS weighed_bound_mj,
    (noise_mj ** 2 * gross_mj + step_mj ** 2 * scaled_mj) / nullif(noise_mj ** 2 + step_mj ** 2, 0) AS weighed_mj,
    coalesce(abs(scaled_mj - gross_mj) <= sqrt(step_mj ** 2 + noise_mj ** 2) + greatest(counter_rest_mj, scaled_rest_mj), false) AS agree
  FROM bounds
),
better AS (
  SELECT *, coalesce(agree AND least(own_mj, agreed_mj) > 0.02 * gross_mj AND weighed_bound_mj < own_mj, false) AS weighs FROM judged
)
SELECT run, cell_key, class, stream, seconds, middle_ns, power_source, counter_mj, integral_mj,
  CASE WHEN weighs THEN weighed_mj ELSE gross_mj END AS gross_mj, CASE WHEN weighs THEN 'weighed' ELSE taken_method END AS method, trouble, gap_s,
  CASE WHEN weighs THEN weighed_bound_mj WHEN agree THEN least(own_mj, agreed_mj) ELSE own_mj END AS uncertainty_mj
FROM better;

-- one row per cell and class of meter (gpu, package, dram): energy of the measured window, gross and net of idle
INSERT INTO energy BY NAME
WITH chosen AS (
  -- the meters of a class (two sockets) add up; where one of them is unknown the sum is
  SELECT run, cell_key, class, any_value(seconds) AS seconds, any_value(middle_ns) AS middle_ns, any_value(power_source) AS power_source,
    count(*) AS meters,
    CASE WHEN count(counter_mj) = count(*) THEN sum(counter_mj) END AS counter_mj,
    CASE WHEN count(integral_mj) = count(*) THEN sum(integral_mj) END AS integral_mj,
    CASE WHEN count(gross_mj) = count(*) THEN sum(gross_mj) END AS gross_mj,
    -- the least sure method of several meters
    arg_min(method, list_position(['integral', 'line', 'shared', 'ends', 'weighed', 'shaped', 'slope'], method)) AS method,
    max(gap_s) AS longest_gap_s, sum(uncertainty_mj) AS uncertainty_mj, string_agg(DISTINCT trouble, '; ') AS trouble,
    count_if(integral_mj IS NULL) AS powerless
  FROM batch.metered GROUP BY run, cell_key, class
),
idle_parts AS (
  -- by the integral where there is one: a counter that steps every 100 ms is too coarse for the few seconds of idling
  SELECT run, cell_key, class, purpose, part, middle_ns, seconds, sum(mw) AS level_mw, count(mw) = count(*) AS whole, 0 AS step_s
  FROM batch.idle_level GROUP BY ALL
  UNION ALL
  SELECT run, cell_key, class, purpose, part, middle_ns, seconds, sum(counter_mj) / any_value(seconds), count(counter_mj) = count(*),
    any_value(CASE WHEN class = 'gpu' THEN 0.1 ELSE 0.002 END)
  FROM batch.meter_energy AS m
  WHERE purpose <> 'measure' AND stream NOT IN (SELECT stream FROM batch.power_cumulated) GROUP BY ALL
),
idle AS (
  SELECT run, cell_key, class, purpose, sum(level_mw * seconds) / sum(seconds) AS mw, avg(middle_ns) AS middle_ns,
    max(step_s) / sum(seconds) * sum(level_mw * seconds) / sum(seconds) AS uncertain_mw
  FROM idle_parts WHERE level_mw IS NOT NULL AND whole GROUP BY ALL
),
levels AS (
  SELECT m.run, m.cell_key, m.class, before.mw AS before_mw, after.mw AS after_mw, without.mw AS without_context_mw,
    coalesce(
      before.mw + (after.mw - before.mw) * (m.middle_ns - before.middle_ns) / nullif(after.middle_ns - before.middle_ns, 0),
      after.mw, before.mw
    ) AS idle_mw,
    greatest(before.uncertain_mw, after.uncertain_mw, 0) AS uncertain_mw
  FROM chosen AS m
  LEFT JOIN idle AS before ON (before.run, before.cell_key, before.class, before.purpose) = (m.run, m.cell_key, m.class, 'idle_before')
  LEFT JOIN idle AS after ON (after.run, after.cell_key, after.class, after.purpose) = (m.run, m.cell_key, m.class, 'idle')
  LEFT JOIN idle AS without
    ON (without.run, without.cell_key, without.class, without.purpose) = (m.run, m.cell_key, m.class, 'without_context')
),
own AS (
  SELECT m.run, m.cell_key, m.class, m.meters, m.seconds, m.counter_mj / 1e3 AS counter_j, m.integral_mj / 1e3 AS integral_j,
    CASE WHEN m.gross_mj IS NULL THEN NULL WHEN m.method = 'integral' THEN 'integral' ELSE 'counter' END AS basis,
    CASE WHEN m.gross_mj IS NOT NULL THEN m.method END AS method, m.power_source, m.gross_mj / 1e3 AS gross_j,
    idle_mw / 1e3 AS idle_w, before_mw / 1e3 AS idle_before_w,
    after_mw / 1e3 AS idle_after_w, without_context_mw / 1e3 AS idle_without_context_w,
    (m.gross_mj - idle_mw * m.seconds) / 1e3 AS net_j,
    batch.measured.n * items_of_row(cell.scenario, cell.batch_size, cell.items_per_sample) AS images, longest_gap_s, uncertainty_mj / 1e3 AS uncertainty_j,
    CASE WHEN idle_mw IS NOT NULL THEN (uncertainty_mj + uncertain_mw * m.seconds) / 1e3 END AS net_uncertainty_j,
    CASE
      WHEN trouble IS NOT NULL THEN trouble
      WHEN abs(m.integral_mj / nullif(m.counter_mj, 0) - 1) > 0.05
        THEN printf('counter %.2f J and integral of power %.2f J differ by %.1f %%',
          m.counter_mj / 1e3, m.integral_mj / 1e3, 100 * abs(m.integral_mj / m.counter_mj - 1))
      WHEN longest_gap_s > greatest(1, 0.1 * m.seconds) THEN printf('no power reading for %.1f s', longest_gap_s)
    END AS suspect
  FROM chosen AS m
  JOIN batch.measured USING (run, cell_key)
  JOIN cell_row AS cell USING (run, cell_key)
  LEFT JOIN levels ON levels.run = m.run AND levels.cell_key = m.cell_key AND levels.class = m.class
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
    'published' AS basis, any_value(source) AS power_source, 'published' AS method, sum(gross_j) AS gross_j, NULL AS idle_w, NULL AS idle_before_w,
    NULL AS idle_after_w, NULL AS idle_without_context_w, NULL AS net_j,
    any_value(regions) * (SELECT avg(images) FROM pass_row AS p WHERE p.run = domains.run AND p.cell_key = domains.cell_key)
      AS images,
    NULL AS longest_gap_s, NULL AS uncertainty_j, NULL AS net_uncertainty_j, NULL AS suspect
  FROM domains GROUP BY run, cell_key, class
)
SELECT run, cell_key, class, meters::BIGINT AS meters, seconds::DOUBLE AS seconds, counter_j::DOUBLE AS counter_j,
  integral_j::DOUBLE AS integral_j, basis::VARCHAR AS basis, method::VARCHAR AS method, power_source::VARCHAR AS power_source,
  gross_j::DOUBLE AS gross_j, idle_w::DOUBLE AS idle_w, idle_before_w::DOUBLE AS idle_before_w,
  idle_after_w::DOUBLE AS idle_after_w, idle_without_context_w::DOUBLE AS idle_without_context_w, net_j::DOUBLE AS net_j,
  images::DOUBLE AS images,
  longest_gap_s::DOUBLE AS longest_gap_s, uncertainty_j::DOUBLE AS uncertainty_j,
  net_uncertainty_j::DOUBLE AS net_uncertainty_j, suspect::VARCHAR AS suspect
FROM (FROM own UNION ALL BY NAME FROM published) WHERE gross_j IS NOT NULL OR suspect IS NOT NULL;
