-- Files of many rows. They are read when a question names their view and not before (Database.execute), each time anew.
--
-- Whose file it is, its path tells: so DuckDB opens only the files of runs and cells that are asked for. Where a run's name
-- is not its folder's (two folders of one name, a repaired copy of a file) it stands in the map `renamed`: folder -> name,
-- and `run_in` is replaced by the slower `renamed_run_in`.

-- samples: every inference of every cell, straight from the files
CREATE OR REPLACE VIEW samples AS
SELECT run_in(filename, 3) AS run, split_part(filename, '/', -2) AS cell_key, file.* EXCLUDE (filename),
  end_ns - start_ns AS duration_ns
FROM read_csv(
  getvariable('sample_paths'), columns = getvariable('sample_columns'),
  header = true, auto_detect = false, hive_partitioning = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

-- device_times: every inference that was timed by the device's own clock too (phase `device`), straight from the files
CREATE OR REPLACE VIEW device_times AS
SELECT run_in(filename, 3) AS run, split_part(filename, '/', -2) AS cell_key, file.* EXCLUDE (filename),
  end_ns - start_ns AS duration_ns
FROM read_csv(
  getvariable('device_time_paths'), columns = getvariable('device_time_columns'),
  header = true, auto_detect = false, hive_partitioning = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file;

-- power: every power reading, straight from the files; boot counts those before reboots in the middle of the run, NULL is the last
CREATE OR REPLACE VIEW power AS
SELECT run_in(filename, 1) AS run, source.boot, file.* EXCLUDE (filename)
FROM read_csv(
  getvariable('power_paths'), columns = getvariable('power_columns'),
  header = true, auto_detect = false, hive_partitioning = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file LEFT JOIN power_source AS source ON source.path = file.filename;

-- power_by_meter: every power reading with its meter: a GPU, a CPU package or its DRAM
CREATE OR REPLACE VIEW power_by_meter AS
SELECT *, concat_ws('|', run, domain, uuid, device, 'boot ' || boot) AS stream, regexp_extract(domain, '^[a-z]+') AS class FROM power;

-- meter_joules: energy since the first reading of each meter: the integral of its power, or its counter where it tells no power
CREATE OR REPLACE VIEW meter_joules AS
WITH meter AS (
  SELECT run, stream, any_value(boot) AS boot, any_value(class) AS class, any_value(uuid) AS uuid, any_value(device) AS device,
    count(power_mw) AS powers
  FROM power_by_meter GROUP BY run, stream
)
SELECT meter.* EXCLUDE (powers), t_ns, cumulated_mj / 1e3 AS joules
FROM cumulated_power('power_by_meter') AS power JOIN meter USING (run, stream) WHERE powers >= 2
UNION ALL
SELECT meter.* EXCLUDE (powers), t_ns, energy_mj / 1e3
FROM power_by_meter AS power JOIN meter USING (run, stream) WHERE powers < 2 AND energy_mj IS NOT NULL;

-- attempts: the journal of every run: a row when a cell was begun and one when it was finished; a start without a finish
-- is a crash of all above the worker
CREATE OR REPLACE VIEW attempts AS
SELECT run_in(filename, 1) AS run, file.* EXCLUDE (filename)
FROM read_csv(
  getvariable('attempt_paths'), columns = getvariable('attempt_columns'),
  header = true, auto_detect = false, hive_partitioning = false, delim = ',', quote = '"', escape = '"', new_line = '\n', filename = true
) AS file;
