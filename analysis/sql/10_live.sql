-- The schema `live` reads the CSV files that the variables name. database.py names the files of some runs at a time, puts
-- what the views of `live` find into tables of the same name in `batch`, and adds what is to stay to those in `main`.
CREATE SCHEMA live;
CREATE SCHEMA batch;
CREATE TABLE batch.run (run VARCHAR);

CREATE VIEW live.sample_file AS
SELECT file.*
FROM read_csv(
  getvariable('sample_paths'), columns = getvariable('sample_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

-- those among them that the server scenario wrote
CREATE VIEW live.server_file AS
SELECT file.*
FROM read_csv(
  getvariable('server_paths'), columns = getvariable('sample_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

CREATE VIEW live.power_file AS
SELECT file.*
FROM read_csv(
  getvariable('power_paths'), columns = getvariable('power_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

-- images that a row of samples.csv stands for: the server scenario has a row for each query, and a query is one image
CREATE MACRO images_of_row(scenario, batch_size) AS CASE WHEN scenario = 'server' THEN 1 ELSE batch_size END;

-- one row per cell with inferences: bounds of its window and quantiles of the latency
-- (server scenario: from when the query was due; linear interpolation between order statistics)
CREATE VIEW live.measured AS
WITH file AS (
  SELECT
    filename,
    count(*) AS n,
    min(start_ns) AS window_start_ns,
    max(end_ns) AS window_end_ns,
    sum(end_ns - start_ns)::DOUBLE AS busy_ns,
    avg(end_ns - coalesce(scheduled_ns, start_ns)) AS mean_ns,
    min(end_ns - coalesce(scheduled_ns, start_ns))::DOUBLE AS min_ns,
    max(end_ns - coalesce(scheduled_ns, start_ns))::DOUBLE AS max_ns,
    quantile_cont((end_ns - coalesce(scheduled_ns, start_ns))::DOUBLE, [0.5, 0.9, 0.95, 0.99, 0.999]) AS quantile_ns,
    -- DuckDB forgives a line with one comma too many, which shifts its numbers: then the due time is what tells
    count_if(end_ns < start_ns OR scheduled_ns > start_ns OR start_ns IS NULL OR end_ns IS NULL)
      + (count(scheduled_ns) NOT IN (0, count(*)))::INTEGER AS faulty
  FROM live.sample_file
  GROUP BY filename
),
server AS (
  -- where the latency went; apart, since counting distinct times takes as long as all else together
  SELECT
    filename,
    count(DISTINCT start_ns) AS server_inferences,
    max(scheduled_ns) - min(scheduled_ns) AS arrivals_ns,
    avg(start_ns - scheduled_ns) AS mean_wait_ns,
    quantile_cont((start_ns - scheduled_ns)::DOUBLE, [0.5, 0.9, 0.95, 0.99]) AS wait_quantile_ns,
    quantile_cont((end_ns - start_ns)::DOUBLE, [0.5, 0.9, 0.95, 0.99]) AS serve_quantile_ns
  FROM live.server_file
  WHERE scheduled_ns IS NOT NULL
  GROUP BY filename
)
SELECT source.run, source.cell_key, file.* EXCLUDE (filename), server.* EXCLUDE (filename), source.path
FROM file JOIN sample_source AS source ON source.path = file.filename LEFT JOIN server ON server.filename = file.filename;

-- one row per power reading of these runs, `stream` names one meter of one run: what readings are compared within
CREATE VIEW live.reading AS
SELECT source.run, source.path, source.boot, file.* EXCLUDE (filename),
  concat_ws('|', source.run, file.domain, file.uuid, file.device, 'boot ' || source.boot) AS stream,
  regexp_extract(file.domain, '^[a-z]+') AS class,
  coalesce(t_ns IS NULL OR domain IS NULL OR NOT isfinite(power_mw) OR NOT isfinite(energy_mj) OR power_mw < 0 OR energy_mj < 0, false)
    AS faulty
FROM live.power_file AS file JOIN power_source AS source ON source.path = file.filename;

CREATE TABLE batch.measured AS FROM live.measured LIMIT 0;
CREATE TABLE batch.reading AS FROM live.reading LIMIT 0;

-- measured: one row per cell with inferences: bounds of its window, latency quantiles 0.5, 0.9, 0.95, 0.99, 0.999 in ns
CREATE TABLE measured AS FROM live.measured LIMIT 0;

-- samples: every inference of every cell, straight from the files
CREATE VIEW samples AS
SELECT source.run, source.cell_key, file.* EXCLUDE (filename), file.end_ns - file.start_ns AS duration_ns
FROM live.sample_file AS file JOIN sample_source AS source ON source.path = file.filename;

-- power: every power reading, straight from the files; boot counts those before reboots in the middle of the run, NULL is the last
CREATE VIEW power AS
SELECT source.run, source.boot, file.* EXCLUDE (filename)
FROM live.power_file AS file JOIN power_source AS source ON source.path = file.filename;
