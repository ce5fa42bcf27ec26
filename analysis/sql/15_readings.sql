-- one row per power reading of these runs, `stream` names one meter of one run: what readings are compared within
CREATE OR REPLACE TABLE batch.reading AS
SELECT source.run, source.path, source.boot, file.* EXCLUDE (filename),
  concat_ws('|', source.run, file.domain, file.uuid, file.device, 'boot ' || source.boot) AS stream,
  regexp_extract(file.domain, '^[a-z]+') AS class,
  coalesce(t_ns IS NULL OR t_ns < 0 OR t_ns >= 1000000000000000000 OR domain IS NULL OR NOT isfinite(power_mw) OR NOT isfinite(energy_mj) OR power_mw < 0 OR energy_mj < 0, false)
    AS faulty
FROM read_csv(
  getvariable('batch_power_paths'), columns = getvariable('power_columns'),
  header = true, auto_detect = false, hive_partitioning = false, delim = ',', quote = '', escape = '', new_line = '\n', filename = true
) AS file
JOIN batch.power_file AS source ON source.path = file.filename;
