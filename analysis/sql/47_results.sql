-- results: one row per cell with every figure that it has; the figures of a cell that is not ok are there, but no table ranks them
CREATE TABLE results AS
WITH figures AS (
  -- apart from the hundred columns of `cells`: DuckDB makes room for all columns at each join, which for a small run costs most
  SELECT c.run, c.cell_key,
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
    k.memory_used_max_bytes
  FROM (SELECT run, cell_key, device FROM cell_row) AS c
  LEFT JOIN latency AS l USING (run, cell_key)
  LEFT JOIN throughput AS t USING (run, cell_key)
  LEFT JOIN phases AS p USING (run, cell_key)
  LEFT JOIN energy AS e ON e.run = c.run AND e.cell_key = c.cell_key
    AND e.class = CASE WHEN c.device = 'cpu' THEN 'package' ELSE 'gpu' END
  LEFT JOIN energy AS pkg ON pkg.run = c.run AND pkg.cell_key = c.cell_key AND pkg.class = 'package'
  LEFT JOIN energy AS dram ON dram.run = c.run AND dram.cell_key = c.cell_key AND dram.class = 'dram'
  LEFT JOIN conditions AS k ON k.run = c.run AND k.cell_key = c.cell_key
)
SELECT c.*, f.* EXCLUDE (run, cell_key, memory_used_max_bytes),
  coalesce(c.device_peak_bytes, f.memory_used_max_bytes) AS device_memory_peak_bytes
FROM cells AS c LEFT JOIN figures AS f USING (run, cell_key);
