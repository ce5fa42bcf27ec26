-- What an inference is made of, from the traced windows of `invoke explain`. All times are of the recorded inferences.

-- kernels: every record of every traced window, straight from the files
CREATE OR REPLACE VIEW kernels AS
SELECT run_in(filename, 3) AS run, split_part(filename, '/', -2) AS cell_key, file.* EXCLUDE (filename),
  end_ns - start_ns AS duration_ns
FROM read_csv(
  getvariable('kernel_paths'), columns = getvariable('kernel_columns'),
  header = true, auto_detect = false, hive_partitioning = false, delim = ',', quote = '"', escape = '"', new_line = '\n', filename = true
) AS file;

-- rules of analysis/kernel_classes.csv
CREATE OR REPLACE VIEW kernel_rule AS
FROM read_csv(getvariable('kernel_class_path'), header = true, auto_detect = false, hive_partitioning = false, quote = '"', escape = '"',
  columns = {'place': 'INTEGER', 'what': 'VARCHAR', 'library': 'VARCHAR', 'pattern': 'VARCHAR', 'class': 'VARCHAR'});

-- class and use of tensor cores of a name: the first rule that matches decides; where none does, the class is NULL and there are none
CREATE OR REPLACE MACRO class_of(name) AS (
  SELECT arg_min(class, place) FROM kernel_rule WHERE what = 'class' AND regexp_matches(lower(name), pattern)
);
CREATE OR REPLACE MACRO on_tensor_cores(name) AS (
  SELECT coalesce(arg_min(class, place) = 'yes', false) FROM kernel_rule
  WHERE what = 'tensor cores' AND regexp_matches(lower(name), pattern)
);

-- kernel_names: one row per name that occurs, with what it tells
CREATE OR REPLACE VIEW kernel_names AS
WITH names AS (SELECT DISTINCT kind, name FROM kernels WHERE kind IN ('kernel', 'memcpy', 'memset', 'operator', 'dispatch'))
SELECT kind, name,
  CASE kind WHEN 'memcpy' THEN concat('copy ', regexp_extract(name, '(H2D|D2H|D2D|P2P|other)$')) WHEN 'memset' THEN 'other'
    ELSE coalesce(class_of(name), 'unclassified') END AS class,
  kind = 'kernel' AND on_tensor_cores(name) AS tensor_cores
FROM names;

-- walls of the recorded inferences
CREATE OR REPLACE VIEW traced_wall AS
SELECT run, cell_key, i AS inference, start_ns, end_ns FROM traced_row WHERE traced = 1;

-- device_records: what the device did within an inference, cut at the inference's ends
CREATE OR REPLACE VIEW device_records AS
SELECT k.run, k.cell_key, k.inference, k.i, k.kind, k.name, k.detail, k.stream, k.bytes, k.graph, k.graph_node, k.correlation,
  k.start_ns, k.end_ns, n.class, n.tensor_cores,
  greatest(k.start_ns, w.start_ns) AS from_ns, greatest(greatest(k.start_ns, w.start_ns), least(k.end_ns, w.end_ns)) AS to_ns,
  w.start_ns AS wall_start_ns
FROM kernels AS k
JOIN kernel_names AS n USING (kind, name)
JOIN traced_wall AS w ON w.run = k.run AND w.cell_key = k.cell_key AND w.inference = k.inference
WHERE k.end_ns > k.start_ns;

-- host_calls: calls of the host within an inference that launch, copy or wait (GPU only), cut likewise
CREATE OR REPLACE VIEW host_calls AS
SELECT k.run, k.cell_key, k.inference, k.i, k.kind, k.name, k.correlation, k.stream,
  greatest(k.start_ns, w.start_ns) AS from_ns, greatest(greatest(k.start_ns, w.start_ns), least(k.end_ns, w.end_ns)) AS to_ns,
  w.start_ns AS wall_start_ns
FROM kernels AS k
JOIN traced_wall AS w ON w.run = k.run AND w.cell_key = k.cell_key AND w.inference = k.inference
WHERE k.kind IN ('launch', 'graph_launch', 'copy_call', 'sync');

-- the instants at which something begins or ends in an inference, each with how much is under way from then on. What is under
-- way at once shares the time evenly: shared_ns is the time that each of the records has had since the inference began
CREATE OR REPLACE VIEW instants AS
WITH changes AS (
  SELECT run, cell_key, inference, from_ns AS t_ns, 1 AS device, 0 AS waiting FROM device_records
  UNION ALL SELECT run, cell_key, inference, to_ns, -1, 0 FROM device_records
  UNION ALL SELECT run, cell_key, inference, from_ns, 0, 1 FROM host_calls WHERE kind = 'sync'
  UNION ALL SELECT run, cell_key, inference, to_ns, 0, -1 FROM host_calls WHERE kind = 'sync'
  UNION ALL SELECT run, cell_key, inference, start_ns, 0, 0 FROM traced_wall
  UNION ALL SELECT run, cell_key, inference, end_ns, 0, 0 FROM traced_wall
),
steps AS (
  SELECT run, cell_key, inference, t_ns, sum(device) AS device, sum(waiting) AS waiting FROM changes GROUP BY ALL
),
levels AS (
  SELECT run, cell_key, inference, t_ns, sum(device) OVER inference_in_time AS device,
    sum(waiting) OVER inference_in_time AS waiting, lead(t_ns) OVER inference_in_time - t_ns AS length_ns
  FROM steps WINDOW inference_in_time AS (PARTITION BY run, cell_key, inference ORDER BY t_ns)
)
SELECT run, cell_key, inference, t_ns, device, waiting, coalesce(length_ns, 0) AS length_ns,
  coalesce(sum(CASE WHEN device > 0 THEN length_ns / device ELSE 0 END) OVER (
    PARTITION BY run, cell_key, inference ORDER BY t_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ), 0) AS shared_ns
FROM levels;

-- record_shares: device_records with the time that is theirs: overlapping records share it evenly, so shares add up to busy time
CREATE OR REPLACE VIEW record_shares AS
SELECT r.*, coalesce(e.shared_ns - b.shared_ns, 0) AS share_ns
FROM device_records AS r
LEFT JOIN instants AS b ON b.run = r.run AND b.cell_key = r.cell_key AND b.inference = r.inference AND b.t_ns = r.from_ns
LEFT JOIN instants AS e ON e.run = r.run AND e.cell_key = r.cell_key AND e.inference = r.inference AND e.t_ns = r.to_ns;

-- idle_shares: per inference, the time in which the device did nothing: while the host was still at work (launch gaps), and
-- while it waited for the device (gaps within graphs, the way back of the news)
CREATE OR REPLACE VIEW idle_shares AS
SELECT run, cell_key, inference, sum(length_ns) FILTER (device = 0 AND waiting = 0) AS gap_launch_ns,
  sum(length_ns) FILTER (device = 0 AND waiting > 0) AS gap_wait_ns, sum(length_ns) FILTER (device > 0) AS busy_ns
FROM instants GROUP BY ALL;

-- time_by_class: per cell and class, ns of an inference (mean over the recorded ones), its share of the wall time and the number of
-- records; the two kinds of gaps are classes too, so that the shares of a cell add up to 1
CREATE OR REPLACE VIEW time_by_class AS
WITH walls AS (
  SELECT run, cell_key, count(*) AS inferences, sum(end_ns - start_ns) AS wall_ns FROM traced_wall GROUP BY ALL
),
parts AS (
  SELECT run, cell_key, class, sum(share_ns) AS ns, count(*) FILTER (kind NOT IN ('dispatch')) AS records
  FROM record_shares GROUP BY ALL
  UNION ALL
  SELECT run, cell_key, 'gap: host at work', sum(gap_launch_ns), 0 FROM idle_shares GROUP BY ALL
  UNION ALL
  SELECT run, cell_key, 'gap: host waits', sum(gap_wait_ns), 0 FROM idle_shares GROUP BY ALL
)
SELECT run, cell_key, class, ns / inferences AS ns, ns / nullif(wall_ns, 0) AS share, records / inferences AS records
FROM parts JOIN walls USING (run, cell_key) WHERE ns > 0;

-- time_by_kernel: per cell and name, its calls in an inference, ns of an inference, ns of a call, share of the busy time. Where
-- records overlap, ns counts a share of that time, so that ns = calls x ns_per_call and all ns add up to the busy time; length_ns
-- is how long a call lasted, whatever else was under way
CREATE OR REPLACE VIEW time_by_kernel AS
WITH walls AS (SELECT run, cell_key, count(*) AS inferences FROM traced_wall GROUP BY ALL),
sums AS (
  SELECT run, cell_key, name, class, any_value(kind) AS kind, bool_or(tensor_cores) AS tensor_cores, sum(share_ns) AS ns,
    count(DISTINCT (inference, coalesce(correlation, i), coalesce(graph_node, -1))) AS calls,
    sum(to_ns - from_ns) AS length_ns
  FROM record_shares GROUP BY run, cell_key, name, class
)
SELECT run, cell_key, name, class, kind, tensor_cores, calls / inferences AS calls, ns / inferences AS ns,
  ns / calls AS ns_per_call, length_ns / calls AS length_ns, ns / nullif(sum(ns) OVER (PARTITION BY run, cell_key), 0) AS share_of_busy
FROM sums JOIN walls USING (run, cell_key);

-- explained: one row per traced cell: where the time of an inference goes. wall_ns and all that is not said otherwise is the mean
-- over the recorded inferences; median_untraced_ns beside median_traced_ns is what recording cost. records is what the recorder
-- wrote, records_read what kernels.csv has: fewer of these are a loss, and the times are too small. Records that end before they
-- begin (records_backwards) are in no sum, nor are those of inferences that traced.csv lacks (inferences_read over inferences)
CREATE OR REPLACE VIEW explained AS
WITH wall AS (
  SELECT run, cell_key, count(*) AS inferences, avg(end_ns - start_ns) AS wall_ns, median(end_ns - start_ns) AS median_traced_ns
  FROM traced_wall GROUP BY ALL
),
untraced AS (
  SELECT run, cell_key, median(end_ns - start_ns) AS median_untraced_ns, avg(end_ns - start_ns) AS mean_untraced_ns
  FROM traced_row WHERE traced = 0 GROUP BY ALL
),
idle AS (
  SELECT run, cell_key, avg(coalesce(gap_launch_ns, 0)) AS gap_launch_ns, avg(coalesce(gap_wait_ns, 0)) AS gap_wait_ns,
    avg(coalesce(busy_ns, 0)) AS busy_ns
  FROM idle_shares GROUP BY ALL
),
device AS (
  SELECT run, cell_key, count(*) FILTER (kind = 'kernel') AS kernels, count(*) FILTER (kind = 'operator') AS operators,
    count(*) FILTER (kind = 'kernel' AND graph IS NOT NULL) AS graph_kernels,
    sum(share_ns) FILTER (kind IN ('kernel', 'operator', 'dispatch')) AS work_ns,
    sum(share_ns) FILTER (kind = 'kernel') AS kernel_ns, sum(share_ns) FILTER (tensor_cores) AS tensor_ns,
    sum(share_ns) FILTER (class = 'unclassified') AS unclassified_ns,
    sum(share_ns) FILTER (kind = 'memcpy') AS copy_ns, sum(bytes) FILTER (kind = 'memcpy') AS copy_bytes,
    sum(bytes) FILTER (detail = 'H2D') AS h2d_bytes, sum(end_ns - start_ns) FILTER (detail = 'H2D') AS h2d_ns,
    sum(bytes) FILTER (detail = 'D2H') AS d2h_bytes, sum(end_ns - start_ns) FILTER (detail = 'D2H') AS d2h_ns
  FROM record_shares GROUP BY ALL
),
host AS (
  SELECT run, cell_key, count(*) FILTER (kind = 'launch') AS launches, count(*) FILTER (kind = 'graph_launch') AS graph_launches,
    sum(to_ns - from_ns) FILTER (kind <> 'sync') AS launch_ns, sum(to_ns - from_ns) FILTER (kind = 'sync') AS sync_ns
  FROM host_calls GROUP BY ALL
),
counts AS (
  SELECT run, cell_key, count(*) AS records_read, count(*) FILTER (end_ns < start_ns) AS records_backwards,
    count(*) FILTER (inference IS NULL AND kind IN ('kernel', 'memcpy', 'memset')) AS outside,
    count(DISTINCT inference) AS inferences_read
  FROM kernels GROUP BY ALL
)
SELECT run, cell_key, t.source, t.source_version, t.message, t.records, coalesce(c.records_read, 0) AS records_read,
  coalesce(c.records_backwards, 0) AS records_backwards, coalesce(c.inferences_read, 0) AS inferences_read, t.dropped, t.clock_error_ns, w.inferences,
  w.wall_ns, w.median_traced_ns, u.median_untraced_ns, u.mean_untraced_ns,
  (w.median_traced_ns - u.median_untraced_ns) / nullif((coalesce(d.kernels, 0) + coalesce(d.operators, 0)) / w.inferences, 0)
    AS trace_cost_ns_per_record,
  coalesce(i.busy_ns, 0) AS busy_ns, coalesce(i.busy_ns, 0) / w.wall_ns AS busy_share,
  coalesce(i.gap_launch_ns, 0) AS gap_launch_ns, coalesce(i.gap_wait_ns, 0) AS gap_wait_ns,
  coalesce(d.kernels, 0) / w.inferences AS kernels, coalesce(d.operators, 0) / w.inferences AS operators,
  coalesce(d.graph_kernels, 0) / w.inferences AS graph_kernels,
  coalesce(d.unclassified_ns, 0) / nullif(i.busy_ns * w.inferences, 0) AS unclassified_share,
  d.tensor_ns / nullif(d.kernel_ns, 0) AS tensor_core_share,
  coalesce(d.copy_ns, 0) / w.inferences / w.wall_ns AS copy_share, d.copy_bytes / w.inferences AS copy_bytes,
  d.h2d_bytes * 1e9 / nullif(d.h2d_ns, 0) AS h2d_bytes_per_s, d.d2h_bytes * 1e9 / nullif(d.d2h_ns, 0) AS d2h_bytes_per_s,
  h.launches / w.inferences AS launches, h.graph_launches / w.inferences AS graph_launches,
  h.launch_ns / w.inferences AS host_launch_ns, h.sync_ns / w.inferences AS host_wait_ns,
  w.wall_ns - coalesce(h.launch_ns + coalesce(h.sync_ns, 0), 0) / w.inferences AS host_other_ns,
  coalesce(c.outside, 0) AS records_outside
FROM trace_row AS t
LEFT JOIN wall AS w USING (run, cell_key)
LEFT JOIN untraced AS u USING (run, cell_key)
LEFT JOIN idle AS i USING (run, cell_key)
LEFT JOIN device AS d USING (run, cell_key)
LEFT JOIN host AS h USING (run, cell_key)
LEFT JOIN counts AS c USING (run, cell_key);
