-- The schema `live` works on the files of some runs at a time: Python puts their rows into `sample_times` and `batch`
-- (analysis/database/loading.py), what the views of `live` find goes into tables of the same name in `batch`, and what is to stay is
-- added to those in `main`. Nothing of it is made where all runs come from the cache.
CREATE SCHEMA live;
CREATE SCHEMA batch;
CREATE TABLE batch.sample_file (file INTEGER, run VARCHAR, cell_key VARCHAR, server BOOLEAN);

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

CREATE TABLE batch.measured AS FROM measured LIMIT 0;
