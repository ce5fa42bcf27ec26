-- results: one row per cell with every figure that it has; the figures of a cell that is not ok are there, but no table ranks them
CREATE TABLE results AS
SELECT c.*,
  l.n, l.mean_ms, l.min_ms, l.max_ms, l.median_ms, l.p90_ms, l.p95_ms, l.p99_ms, l.p999_ms,
  -- items_per_s and joules_per_item are in the cell's item; images_per_s and the like are the same figures under the
  -- names that they have for image models
  t.basis AS throughput_basis, try_cast(t.images AS BIGINT) AS images, t.window_s, t.images_per_s, t.images_per_s AS items_per_s, t.seconds_per_image, t.coverage, t.stalled_s,
  t.longest_stall_s, t.images_per_s_without_stalls,
  p.import_s, p.convert_s, p.load_s, p.compile_s, p.first_s, p.warmup_s, p.cold_start_s,
  e.class AS energy_class, e.basis AS energy_basis, e.method AS energy_method, e.gross_j, e.net_j, e.idle_w, e.uncertainty_j, e.net_uncertainty_j,
  e.idle_before_w, e.idle_after_w, e.idle_without_context_w,
  e.gross_j / e.seconds AS power_gross_w,
  e.net_j / e.seconds AS power_net_w,
  e.gross_j / e.images AS joules_per_image,
  e.gross_j / e.images AS joules_per_item,
  e.net_j / e.images AS joules_per_image_net,
  e.images / nullif(e.gross_j, 0) AS images_per_joule,
  t.images_per_s / nullif(e.gross_j / e.seconds, 0) AS images_per_s_per_watt,
  e.gross_j * e.seconds / (e.images * e.images) AS energy_delay_js,
  e.images * e.images / nullif(e.gross_j * e.seconds, 0) AS images_per_joule_second,
  t.images_per_s / nullif(512 * t.seconds_per_image, 0) AS time_efficiency,
  pkg.gross_j / pkg.images AS package_joules_per_image,
  dram.gross_j / dram.images AS dram_joules_per_image,
  k.sm_clock_median_mhz, k.temperature_start_c, k.temperature_end_c, k.share_any_hardware_slowdown, k.share_power_cap,
  coalesce(c.device_peak_bytes, k.memory_used_max_bytes) AS device_memory_peak_bytes
FROM cells AS c
LEFT JOIN latency AS l USING (run, cell_key)
LEFT JOIN throughput AS t USING (run, cell_key)
LEFT JOIN phases AS p USING (run, cell_key)
LEFT JOIN energy AS e ON e.run = c.run AND e.cell_key = c.cell_key
  AND e.class = CASE WHEN c.device = 'cpu' THEN 'package' ELSE 'gpu' END
LEFT JOIN energy AS pkg ON pkg.run = c.run AND pkg.cell_key = c.cell_key AND pkg.class = 'package'
LEFT JOIN energy AS dram ON dram.run = c.run AND dram.cell_key = c.cell_key AND dram.class = 'dram'
LEFT JOIN conditions AS k ON k.run = c.run AND k.cell_key = c.cell_key;

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
  any_value(device_name) AS device_name, any_value(device_uuid) AS device_uuid, any_value(origin) AS origin,
  any_value(weights) AS weights, any_value(weights_note) AS weights_note, any_value(created_utc) AS created_utc,
  any_value(compute_capability) AS compute_capability, any_value(framework_version) AS framework_version,
  any_value(no_cpu_energy) AS no_cpu_energy,
  any_value(status) AS status, any_value(message) AS message, any_value(known_wrong) AS known_wrong,
  list_sort(list_distinct(flatten(list(coalesce(marks, []))))) AS marks,
  list(cell_key ORDER BY cell_key) AS cell_keys,
  count(*) AS replicates,
  try_cast(sum(n) FILTER (status = 'ok') AS BIGINT) AS samples,
  -- of the mean over the workers, whose error is at most the mean of theirs
  avg(uncertainty_j) FILTER (status = 'ok') > 0.02 * avg(gross_j) FILTER (status = 'ok') AS gross_coarse,
  avg(net_uncertainty_j) FILTER (status = 'ok') > 0.02 * abs(avg(net_j) FILTER (status = 'ok')) AS net_coarse,
  any_value(energy_basis) AS energy_basis, array_to_string(list_sort(list(DISTINCT energy_method)), ', ') AS energy_method,
  avg(COLUMNS(lambda c: c IN (
    'images_per_s', 'items_per_s', 'joules_per_item', 'mean_ms', 'median_ms', 'p90_ms', 'p95_ms', 'p99_ms', 'p999_ms', 'seconds_per_image',
    'power_gross_w', 'power_net_w', 'idle_w', 'idle_without_context_w', 'joules_per_image', 'joules_per_image_net', 'images_per_joule',
    'images_per_s_per_watt', 'energy_delay_js', 'images_per_joule_second', 'time_efficiency', 'package_joules_per_image', 'dram_joules_per_image',
    'device_memory_peak_bytes', 'host_peak_bytes', 'import_s', 'convert_s', 'load_s', 'compile_s', 'first_s', 'cold_start_s',
    'parity_rel_l2', 'parity_top1', 'coverage', 'stalled_s', 'images_per_s_without_stalls'
  ))) FILTER (status = 'ok')
FROM best
GROUP BY run, model, model_hash, item, items_per_sample, device, variant, precision, batch_size, io, scenario, streams, target_rate_per_s, frontend, tuning, version, input;
