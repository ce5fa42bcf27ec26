-- The files 10 to 30 are run for some runs at a time (analysis/database/loading.py): Python puts their rows into `sample_times` and
-- the tables of `batch`, each statement makes another of those, and what is to stay is added to the tables of 05_measured.sql. A
-- statement is bound when it is run, once: as views they would be bound as they are created too, and in each view above them.

-- one row per cell with inferences: bounds of its window and quantiles of the latency
-- (server scenario: from when the query was due; linear interpolation between order statistics)
CREATE OR REPLACE TABLE batch.measured AS
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
    stddev_pop(end_ns - start_ns) AS scatter_ns,
    quantile_cont((end_ns - due_ns)::DOUBLE, [0.5, 0.9, 0.95, 0.99, 0.999]) AS quantile_ns
  FROM sample_times
  GROUP BY file
),
ends AS (
  -- the first and the last end of each 20 ms: a stall is longer than that, and whatever lies between two such spells does not
  -- finish anything. Few rows, where comparing each inference with the one before would sort them all.
  SELECT file, end_ns // 20000000 AS spell, min(end_ns) AS first_ns, max(end_ns) AS last_ns
  FROM sample_times WHERE file NOT IN (SELECT file FROM batch.sample_file WHERE server) GROUP BY ALL
),
pauses AS (
  SELECT ends.file, first_ns - coalesce(lag(last_ns) OVER (PARTITION BY ends.file ORDER BY spell), window_start_ns) AS pause_ns
  FROM ends JOIN every USING (file)
  UNION ALL
  -- a server waits for queries: it stalls in an inference, or while a query that was due waits and nothing runs
  SELECT file, unnest([end_ns - start_ns, start_ns - greatest(due_ns, lag(end_ns) OVER (PARTITION BY file ORDER BY start_ns))])
  FROM (
    SELECT file, start_ns, max(end_ns) AS end_ns, min(due_ns) AS due_ns FROM sample_times
    WHERE file IN (SELECT file FROM batch.sample_file WHERE server) GROUP BY ALL
  )
),
usual AS (
  SELECT file, greatest(0, median(pause_ns)) AS usual_ns FROM pauses GROUP BY file
),
stalls AS (
  -- a slow one among slow inferences is no stall: it takes twice as long as usual, at least
  SELECT file, sum(pause_ns - usual_ns) AS stalled_ns, max(pause_ns - usual_ns) AS longest_stall_ns
  FROM pauses JOIN usual USING (file) JOIN every USING (file)
  WHERE pause_ns - usual_ns > 0.03 * (window_end_ns - window_start_ns) AND pause_ns > 2 * usual_ns GROUP BY file
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
SELECT source.run, source.cell_key, every.* EXCLUDE (file), coalesce(stalled_ns, 0) AS stalled_ns,
  coalesce(longest_stall_ns, 0) AS longest_stall_ns, server.* EXCLUDE (file)
FROM every JOIN batch.sample_file AS source USING (file) LEFT JOIN stalls USING (file) LEFT JOIN server USING (file);

INSERT INTO measured BY NAME FROM batch.measured;
