-- The schema `live` works on the files of some runs at a time: Python puts their rows into `sample_times` and `batch`
-- (analysis/loading.py), what the views of `live` find goes into tables of the same name in `batch`, and what is to stay is
-- added to those in `main`. Nothing of it is made where all runs come from the cache.
CREATE SCHEMA live;
CREATE SCHEMA batch;
CREATE TABLE batch.run (run VARCHAR);
CREATE TABLE batch.sample_file (file INTEGER, run VARCHAR, cell_key VARCHAR, server BOOLEAN);
CREATE TABLE batch.power_file (path VARCHAR, run VARCHAR);

-- one row per cell with inferences: bounds of its window and quantiles of the latency
-- (server scenario: from when the query was due; linear interpolation between order statistics)
CREATE VIEW live.measured AS
WITH every AS (
  SELECT
    file,
    count(*) AS n,
    min(start_ns) AS window_start_ns,
    max(end_ns) AS window_end_ns,
    sum(end_ns - start_ns)::DOUBLE AS busy_ns,
    avg(end_ns - due_ns) AS mean_ns,
    min(end_ns - due_ns)::DOUBLE AS min_ns,
    max(end_ns - due_ns)::DOUBLE AS max_ns,
    quantile_cont((end_ns - due_ns)::DOUBLE, [0.5, 0.9, 0.95, 0.99, 0.999]) AS quantile_ns
  FROM sample_times
  GROUP BY file
),
server AS (
  -- where the latency went; apart, since counting distinct times takes as long as all else together
  SELECT
    file,
    count(DISTINCT start_ns) AS server_inferences,
    max(due_ns) - min(due_ns) AS arrivals_ns,
    avg(start_ns - due_ns) AS mean_wait_ns,
    quantile_cont((start_ns - due_ns)::DOUBLE, [0.5, 0.9, 0.95, 0.99]) AS wait_quantile_ns,
    quantile_cont((end_ns - start_ns)::DOUBLE, [0.5, 0.9, 0.95, 0.99]) AS serve_quantile_ns
  FROM sample_times
  WHERE queued AND file IN (SELECT file FROM batch.sample_file WHERE server)
  GROUP BY file
)
SELECT source.run, source.cell_key, every.* EXCLUDE (file), server.* EXCLUDE (file)
FROM every JOIN batch.sample_file AS source USING (file) LEFT JOIN server USING (file);

-- one row per power reading of these runs, `stream` names one meter of one run: what readings are compared within
CREATE VIEW live.reading AS
SELECT source.run, source.path, file.* EXCLUDE (filename), concat_ws('|', source.run, file.domain, file.uuid, file.device) AS stream,
  regexp_extract(file.domain, '^[a-z]+') AS class,
  coalesce(t_ns IS NULL OR domain IS NULL OR NOT isfinite(power_mw) OR NOT isfinite(energy_mj) OR power_mw < 0 OR energy_mj < 0, false)
    AS faulty
FROM read_csv(
  getvariable('batch_power_paths'), columns = getvariable('power_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file
JOIN batch.power_file AS source ON source.path = file.filename;

CREATE TABLE batch.measured AS FROM live.measured LIMIT 0;
CREATE TABLE batch.reading AS FROM live.reading LIMIT 0;

-- measured: one row per cell with inferences: bounds of its window, latency quantiles 0.5, 0.9, 0.95, 0.99, 0.999 in ns
CREATE TABLE measured AS FROM live.measured LIMIT 0;
