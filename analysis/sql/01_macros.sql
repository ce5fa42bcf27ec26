-- What the statements of several files use.

-- the run that a file belongs to, of its path (00_files.sql); up: how many steps the run's folder is above the file, counted
-- from the path's end
CREATE MACRO run_in(path, up) AS split_part(path, '/', -up - 1);
CREATE MACRO renamed_run_in(path, up) AS coalesce(
  getvariable('renamed')[array_to_string(string_split(path, '/')[:-up - 1], '/')], split_part(path, '/', -up - 1)
);

-- the power readings of a table or view with the energy since the meter's first reading, of the best of its power sources
CREATE MACRO cumulated_power(readings) AS TABLE
WITH best AS (
  SELECT run, stream, arg_min(
    coalesce(power_source, ''), coalesce(list_position(['instant', 'average', 'usage'], power_source), 9)
  ) AS source
  FROM query_table(readings) WHERE power_mw IS NOT NULL GROUP BY run, stream
),
steps AS (
  SELECT run, stream, t_ns, power_mw, source,
    (power_mw + lag(power_mw) OVER meter) / 2 * (t_ns - lag(t_ns) OVER meter) / 1e9 AS step_mj,
    t_ns - lag(t_ns) OVER meter AS gap_ns
  FROM query_table(readings) JOIN best USING (run, stream)
  WHERE power_mw IS NOT NULL AND coalesce(power_source, '') = source
  WINDOW meter AS (PARTITION BY run, stream ORDER BY t_ns)
)
SELECT run, stream, t_ns, power_mw, source, gap_ns,
  coalesce(sum(step_mj) OVER (PARTITION BY run, stream ORDER BY t_ns ROWS UNBOUNDED PRECEDING), 0) AS cumulated_mj
FROM steps;

-- images that a row of samples.csv stands for: the server scenario has a row for each query, and a query is one image
CREATE MACRO items_of_row(scenario, batch_size, items_per_sample) AS
  CASE WHEN scenario = 'server' THEN 1 ELSE batch_size END * coalesce(items_per_sample, 1);
