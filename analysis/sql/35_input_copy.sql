-- Run for one file of `batch.kernel_file` at a time (analysis/database/loading.py): adds its cell to `input_copied` where every recorded
-- inference has a copy to the GPU that is as large as a batch of images: an image of 224 x 224 x 3 has 150,528 bytes at least. Graphs
-- copy constants too, in each inference (ViT-Ti16 in TensorFlow up to 788 bytes), which prove nothing; nor does a cell of smaller inputs.
INSERT INTO input_copied
WITH copies AS (
  SELECT inference, max(bytes) AS bytes
  FROM read_csv(
    getvariable('input_copy_paths'), columns = getvariable('kernel_columns'),
    header = true, auto_detect = false, hive_partitioning = false, delim = ',', quote = '"', escape = '"', new_line = '\n'
  )
  WHERE kind = 'memcpy' AND detail = 'H2D' GROUP BY inference
)
SELECT cell.run, cell.cell_key
FROM batch.kernel_file AS source JOIN cell_row AS cell USING (run, cell_key)
JOIN traced_row AS wall ON wall.run = cell.run AND wall.cell_key = cell.cell_key AND wall.traced = 1
LEFT JOIN copies ON copies.inference = wall.i
GROUP BY cell.run, cell.cell_key, cell.batch_size HAVING min(coalesce(copies.bytes, 0)) >= 100000 * cell.batch_size;
