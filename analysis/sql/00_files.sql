-- Files of many rows. They are read when a question names their view and not before (Database.execute), each time anew.
--
-- Whose file it is, its path tells: so DuckDB opens only the files of runs and cells that are asked for. Where a run's name
-- is not its folder's (two folders of one name, a repaired copy of a file) it stands in the map `renamed`: folder -> name,
-- and `run_in` is replaced by the slower `renamed_run_in`.
-- up: how many steps the run's folder is above the file, counted from the path's end.
CREATE MACRO run_in(path, up) AS split_part(path, '/', -up - 1);
CREATE MACRO renamed_run_in(path, up) AS coalesce(
  getvariable('renamed')[array_to_string(string_split(path, '/')[:-up - 1], '/')], split_part(path, '/', -up - 1)
);

-- samples: every inference of every cell, straight from the files
CREATE VIEW samples AS
SELECT run_in(filename, 3) AS run, split_part(filename, '/', -2) AS cell_key, file.* EXCLUDE (filename),
  end_ns - start_ns AS duration_ns
FROM read_csv(
  getvariable('sample_paths'), columns = getvariable('sample_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

-- device_times: every inference that was timed by the device's own clock too (phase `device`), straight from the files
CREATE VIEW device_times AS
SELECT run_in(filename, 3) AS run, split_part(filename, '/', -2) AS cell_key, file.* EXCLUDE (filename),
  end_ns - start_ns AS duration_ns
FROM read_csv(
  getvariable('device_time_paths'), columns = getvariable('device_time_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

-- power: every power reading, straight from the files
CREATE VIEW power AS
SELECT run_in(filename, 1) AS run, file.* EXCLUDE (filename)
FROM read_csv(
  getvariable('power_paths'), columns = getvariable('power_columns'),
  header = true, auto_detect = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

-- attempts: the journal of every run: a row when a cell was begun and one when it was finished; a start without a finish
-- is a crash of all above the worker
CREATE VIEW attempts AS
SELECT run_in(filename, 1) AS run, file.* EXCLUDE (filename)
FROM read_csv(
  getvariable('attempt_paths'), columns = getvariable('attempt_columns'),
  header = true, auto_detect = false, delim = ',', quote = '"', escape = '"', new_line = '\n', filename = true
) AS file;

-- images that a row of samples.csv stands for: the server scenario has a row for each query, and a query is one image
CREATE MACRO images_of_row(scenario, batch_size) AS CASE WHEN scenario = 'server' THEN 1 ELSE batch_size END;
