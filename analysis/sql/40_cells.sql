-- Level of tuning of a row from before there was a column for it: `rewritten` where convolutions were computed in another way than
-- PyTorch's, or operators of the ONNX file fused before ONNX Runtime read it. What a source of others did is not known: tuned.
CREATE MACRO tuning_by_settings(settings) AS CASE
  WHEN regexp_matches(coalesce(settings, ''), '"convolutions": "[^"]*(matrix product|fused convolution|shifted convolution)')
    OR regexp_matches(coalesce(settings, ''), '"model": "[1-9][0-9]* hard-swish') THEN 'rewritten' ELSE 'tuned' END;

-- Why the times of a row are known to be wrong, and with them its throughput and energy; else NULL. Until 29 November 2026 the
-- adapter of TensorFlow and Keras copied its input with tf.identity, whose copy on the GPU TensorFlow keeps beside the tensor and takes
-- again: only the first inference copied. Rows of the adapter that copies in each inference say so in their settings; of those
-- from before that was recorded, the explained ones prove it by their own records (input_copied).
-- Rows of uint8 input of the hour in which there was the option, but the harness still fed float32 (until 19:51 UTC on 28 November
-- 2026): their copies are four times what the row says.
-- Rows of PyTorch at the level stock by whose settings something was folded into convolutions, which no tutorial does: until
-- 29 November 2026 the conversion did so at every level.
CREATE MACRO known_wrong(variant, device, io, status, origin, settings, copied, fed, started_utc, tuning) AS CASE
  WHEN variant IN ('tf', 'tfxla', 'keras', 'kerasxla', 'tftrt') AND device <> 'cpu' AND io = 'host' AND status = 'ok'
    AND coalesce(origin, 'framewatt') = 'framewatt'
    AND NOT regexp_matches(coalesce(settings, ''), '"input_copy": *"each inference"') AND NOT copied
  THEN 'input copied once, not in each inference: too fast (framewatt until 29 November 2026)'
  WHEN fed = 'uint8' AND status = 'ok' AND coalesce(origin, 'framewatt') = 'framewatt' AND started_utc < '2026-11-28T19:51'
  THEN 'fed float32, not uint8: figures of float32 input (framewatt on 28 November 2026)'
  WHEN variant IN ('torch', 'torchcompile') AND tuning = 'stock' AND status = 'ok' AND coalesce(origin, 'framewatt') = 'framewatt'
    AND regexp_matches(coalesce(settings, ''), '"model": *"[^"]*\b[1-9][0-9]* (scales and shifts|batch normalisations)[^,"]* folded')
  THEN 'scales and shifts folded into convolutions, which is not stock: too fast (framewatt until 29 November 2026)' END;

-- cells: one row per cell: its row of cell.csv with what run.json knows of the machine
CREATE VIEW cells AS
SELECT
  -- Until November 2026 rows of Keras gave TensorFlow's version for the framework's; Keras' own stands among all versions.
  cell.* EXCLUDE (device_name, origin, item, items_per_sample) REPLACE (
    coalesce(cell.tuning, tuning_by_settings(cell.settings)) AS tuning, coalesce(cell.input, 'float32') AS input,
    CASE WHEN cell.variant IN ('keras', 'kerasxla')
        AND cell.framework_version = regexp_extract(cell.versions, '"tensorflow": *"([^"]+)"', 1)
      THEN coalesce(nullif(regexp_extract(cell.versions, '"keras": *"([^"]+)"', 1), ''), cell.framework_version)
      ELSE cell.framework_version END AS framework_version),
  coalesce(cell.item, 'image') AS item, coalesce(cell.items_per_sample, 1) AS items_per_sample,
  coalesce(cell.device_name, dev.name, CASE WHEN cell.device = 'cpu' THEN run.cpu_model END) AS device_name,
  coalesce(cell.origin, run.origin, 'framewatt') AS origin,
  known_wrong(cell.variant, cell.device, cell.io, cell.status, coalesce(cell.origin, run.origin), cell.settings,
    copied.run IS NOT NULL, cell.input, cell.started_utc, coalesce(cell.tuning, tuning_by_settings(cell.settings))) AS known_wrong,
  run.command, run.created_utc, run.seed, run.cpu_model, run.logical_cores, run.memory_bytes, run.kernel, run.os,
  run.governor, run.turbo, run.clock_source, run.usable_cores, run.cpu_quota, run.cores_short, run.virtualization, run.source_revision, run.cool_to_c,
  run.weights_note,
  dev.driver, dev.cuda, dev.compute_capability, dev.memory_bytes AS device_memory_bytes, dev.power_limit_mw,
  dev.power_limit_default_mw, dev.ecc, dev.persistence, dev.mig_mode, dev.pcie_generation, dev.pcie_generation_max,
  dev.pcie_width, dev.pcie_width_max, dev.sm_clock_default_mhz, dev.sm_clock_max_mhz, dev.processes AS foreign_processes, dev.no_cpu_energy,
  dev.no_power
FROM cell_row AS cell
LEFT JOIN run USING (run)
LEFT JOIN input_copied AS copied ON copied.run = cell.run AND copied.cell_key = cell.cell_key
LEFT JOIN run_device AS dev ON dev.run = cell.run
  AND (dev.uuid = cell.device_uuid OR (cell.device_uuid IS NULL AND dev.device = cell.device));

-- phases: one row per cell: seconds of each phase; import, convert and load belong to the worker and are shared by its cells
CREATE VIEW phases AS
WITH wide AS (
  SELECT run, cell_key,
    sum(CASE WHEN phase = 'import' THEN (end_ns - start_ns) / 1e9 END) AS own_import_s,
    sum(CASE WHEN phase = 'convert' THEN (end_ns - start_ns) / 1e9 END) AS own_convert_s,
    sum(CASE WHEN phase = 'load' THEN (end_ns - start_ns) / 1e9 END) AS own_load_s,
    sum(CASE WHEN phase = 'compile' THEN (end_ns - start_ns) / 1e9 END) AS compile_s,
    sum(CASE WHEN phase = 'first' THEN (end_ns - start_ns) / 1e9 END) AS first_s,
    sum(CASE WHEN phase = 'warmup' THEN (end_ns - start_ns) / 1e9 END) AS warmup_s,
    sum(CASE WHEN phase = 'measure' THEN (end_ns - start_ns) / 1e9 END) AS measure_s,
    min(CASE WHEN phase = 'measure' THEN start_ns END) AS measure_start_ns,
    max(CASE WHEN phase = 'measure' THEN end_ns END) AS measure_end_ns
  FROM phase_row GROUP BY ALL
),
shared AS (
  SELECT wide.* EXCLUDE (own_import_s, own_convert_s, own_load_s),
    coalesce(own_import_s, max(own_import_s) OVER worker) AS import_s,
    coalesce(own_convert_s, max(own_convert_s) OVER worker) AS convert_s,
    coalesce(own_load_s, max(own_load_s) OVER worker) AS load_s
  FROM wide JOIN cell_row AS cell USING (run, cell_key)
  WINDOW worker AS (PARTITION BY run, coalesce(cell.worker, cell_key))
)
SELECT *, import_s + coalesce(convert_s, 0) + load_s + coalesce(compile_s, 0) + first_s AS cold_start_s FROM shared;

-- latency: one row per cell: wall time of one inference with `io` as stated; a percentile only with enough inferences
CREATE VIEW latency AS
SELECT m.run, m.cell_key, m.n, m.mean_ns / 1e6 AS mean_ms, m.min_ns / 1e6 AS min_ms, m.max_ns / 1e6 AS max_ms,
  CASE WHEN m.n >= getvariable('needs_p50') THEN m.quantile_ns[1] / 1e6 END AS median_ms,
  CASE WHEN m.n >= getvariable('needs_p90') THEN m.quantile_ns[2] / 1e6 END AS p90_ms,
  CASE WHEN m.n >= getvariable('needs_p95') THEN m.quantile_ns[3] / 1e6 END AS p95_ms,
  CASE WHEN m.n >= getvariable('needs_p99') THEN m.quantile_ns[4] / 1e6 END AS p99_ms,
  CASE WHEN m.n >= getvariable('needs_p999') THEN m.quantile_ns[5] / 1e6 END AS p999_ms
FROM (
  -- offline nobody waits for a single inference, so there is no latency, whatever the rows say
  SELECT run, cell_key, n, CASE WHEN scenario <> 'offline' THEN mean_ns END AS mean_ns,
    CASE WHEN scenario <> 'offline' THEN min_ns END AS min_ns, CASE WHEN scenario <> 'offline' THEN max_ns END AS max_ns,
    CASE WHEN scenario <> 'offline' THEN quantile_ns END AS quantile_ns
  FROM measured JOIN (SELECT run, cell_key, scenario FROM cell_row) USING (run, cell_key)
) AS m
UNION ALL
-- quantiles that an imported source published: it alone knows from how many inferences
SELECT run, cell_key, NULL, NULL, NULL, NULL, any_value(latency_ns) FILTER (quantile = 0.5) / 1e6,
  any_value(latency_ns) FILTER (quantile = 0.9) / 1e6, any_value(latency_ns) FILTER (quantile = 0.95) / 1e6,
  any_value(latency_ns) FILTER (quantile = 0.99) / 1e6, any_value(latency_ns) FILTER (quantile = 0.999) / 1e6
FROM quantile_row WHERE (run, cell_key) NOT IN (SELECT (run, cell_key) FROM measured)
GROUP BY run, cell_key;

-- throughput: one row per cell: images (items, where the cell's item is another) of the window by its length, from the begin of the first inference to the end of
-- the last; imported passes know no instants, so theirs is the mean over the passes of images by elapsed time.
-- coverage is the share of the window spent inside inferences (above 1 where several are in flight); stalled_s are the times in
-- it, each above 3 % of it, in which nothing was finished, images_per_s_without_stalls the throughput of the rest
CREATE VIEW throughput AS
SELECT m.run, m.cell_key, 'window' AS basis, m.n * items_of_row(cell.scenario, cell.batch_size, cell.items_per_sample) AS images,
  (m.window_end_ns - m.window_start_ns) / 1e9 AS window_s,
  m.n * items_of_row(cell.scenario, cell.batch_size, cell.items_per_sample) * 1e9 / nullif(m.window_end_ns - m.window_start_ns, 0) AS images_per_s,
  (m.window_end_ns - m.window_start_ns) / 1e9 / (m.n * items_of_row(cell.scenario, cell.batch_size, cell.items_per_sample)) AS seconds_per_image,
  m.busy_ns / nullif(m.window_end_ns - m.window_start_ns, 0) AS coverage,
  m.stalled_ns / 1e9 AS stalled_s, m.longest_stall_ns / 1e9 AS longest_stall_s,
  m.n * items_of_row(cell.scenario, cell.batch_size, cell.items_per_sample) * 1e9 / nullif(m.window_end_ns - m.window_start_ns - m.stalled_ns, 0)
    AS images_per_s_without_stalls
FROM measured AS m JOIN cell_row AS cell USING (run, cell_key)
UNION ALL
SELECT run, cell_key, 'passes', sum(images), sum(duration_s), avg(images / duration_s), avg(duration_s / images), NULL, NULL, NULL, NULL
FROM pass_row GROUP BY run, cell_key;

-- queueing: one row per cell of the server scenario: how the latency splits into waiting in the queue and inference, and what
-- share of the time the server was busy; rates in queries (images) per second; a percentile only with enough queries
CREATE VIEW queueing AS
SELECT m.run, m.cell_key, cell.target_rate_per_s, m.n AS queries,
  (m.n - 1) * 1e9 / nullif(m.arrivals_ns, 0) AS arrived_per_s,
  m.n::DOUBLE / m.server_inferences AS images_per_inference,
  least(1, (m.server_inferences * m.busy_ns / m.n) / nullif(m.window_end_ns - m.window_start_ns, 0)) AS utilisation,
  m.mean_wait_ns / 1e6 AS mean_wait_ms,
  CASE WHEN m.n >= getvariable('needs_p50') THEN m.wait_quantile_ns[1] / 1e6 END AS median_wait_ms,
  CASE WHEN m.n >= getvariable('needs_p90') THEN m.wait_quantile_ns[2] / 1e6 END AS p90_wait_ms,
  CASE WHEN m.n >= getvariable('needs_p95') THEN m.wait_quantile_ns[3] / 1e6 END AS p95_wait_ms,
  CASE WHEN m.n >= getvariable('needs_p99') THEN m.wait_quantile_ns[4] / 1e6 END AS p99_wait_ms,
  m.busy_ns / m.n / 1e6 AS mean_inference_ms,
  CASE WHEN m.n >= getvariable('needs_p50') THEN m.serve_quantile_ns[1] / 1e6 END AS median_inference_ms,
  CASE WHEN m.n >= getvariable('needs_p90') THEN m.serve_quantile_ns[2] / 1e6 END AS p90_inference_ms,
  CASE WHEN m.n >= getvariable('needs_p95') THEN m.serve_quantile_ns[3] / 1e6 END AS p95_inference_ms,
  CASE WHEN m.n >= getvariable('needs_p99') THEN m.serve_quantile_ns[4] / 1e6 END AS p99_inference_ms
FROM measured AS m JOIN cell_row AS cell USING (run, cell_key)
WHERE cell.scenario = 'server';
