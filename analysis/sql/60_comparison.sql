-- comparison: one row per configuration of a run: the mean over its workers (replicates) that are ok, else its status and no figure
CREATE TABLE comparison AS
WITH signs AS (
  SELECT run, cell_key, list_sort(list(DISTINCT mark)) AS marks FROM marks GROUP BY ALL
),
speaking AS (
  -- only the ok replicates of a configuration speak; where none is, the first tells why
  SELECT run, cell_key FROM results
  WINDOW configuration AS (
    PARTITION BY run, model, model_hash, item, items_per_sample, device, variant, precision, batch_size, io, scenario, streams, target_rate_per_s, frontend, tuning, version, input
  )
  QUALIFY status = 'ok' OR (
    count_if(status = 'ok') OVER configuration = 0 AND row_number() OVER (configuration ORDER BY replicate) = 1
  )
),
best AS (
  SELECT r.*, signs.marks FROM results AS r SEMI JOIN speaking USING (run, cell_key) LEFT JOIN signs USING (run, cell_key)
)
SELECT
  run, model, model_hash, item, items_per_sample, device, variant, precision, batch_size, io, scenario, streams, target_rate_per_s, frontend, tuning, version, input,
  any_value(model_file) AS model_file, any_value(model_born) AS model_born, any_value(weights_dtype) AS weights_dtype,
  any_value(device_name) AS device_name, any_value(device_uuid) AS device_uuid, any_value(logical_cores) AS logical_cores, any_value(origin) AS origin,
  any_value(weights) AS weights, any_value(weights_note) AS weights_note, any_value(created_utc) AS created_utc,
  any_value(compute_capability) AS compute_capability, any_value(framework_version) AS framework_version,
  any_value(no_cpu_energy) AS no_cpu_energy,
  any_value(status) AS status, any_value(message) AS message, any_value(known_wrong) AS known_wrong,
  list_sort(list_distinct(flatten(list(coalesce(marks, []))))) AS marks,
  list(cell_key ORDER BY cell_key) AS cell_keys,
  count(*) AS replicates,
  CASE WHEN any_value(status) = 'ok' THEN try_cast(sum(n) AS BIGINT) END AS samples,
  -- of the mean over the workers, whose error is at most the mean of theirs
  CASE WHEN any_value(status) = 'ok' THEN avg(uncertainty_j) > 0.02 * avg(gross_j) END AS gross_coarse,
  CASE WHEN any_value(status) = 'ok' THEN avg(net_uncertainty_j) > 0.02 * abs(avg(net_j)) END AS net_coarse,
  any_value(energy_basis) AS energy_basis, array_to_string(list_sort(list(DISTINCT energy_method)), ', ') AS energy_method,
  CASE WHEN any_value(status) = 'ok' THEN avg(COLUMNS(lambda c: c IN (
    'images_per_s', 'items_per_s', 'joules_per_item', 'mean_ms', 'median_ms', 'p90_ms', 'p95_ms', 'p99_ms', 'p999_ms', 'seconds_per_image',
    'power_gross_w', 'power_net_w', 'idle_w', 'idle_without_context_w', 'joules_per_image', 'joules_per_image_net', 'images_per_joule',
    'images_per_s_per_watt', 'energy_delay_js', 'images_per_joule_second', 'time_efficiency', 'package_joules_per_image', 'dram_joules_per_image',
    'device_memory_peak_bytes', 'host_peak_bytes', 'import_s', 'convert_s', 'load_s', 'compile_s', 'first_s', 'cold_start_s',
    'parity_rel_l2', 'parity_top1', 'coverage', 'stalled_s', 'images_per_s_without_stalls'
  ))) END
FROM best -- of a configuration either all rows are ok or there is one; FILTER would copy all columns for each figure
GROUP BY run, model, model_hash, item, items_per_sample, device, variant, precision, batch_size, io, scenario, streams, target_rate_per_s, frontend, tuning, version, input;
