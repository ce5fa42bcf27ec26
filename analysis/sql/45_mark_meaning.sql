-- mark_meaning: every mark, the sign it has in tables, and what it means
CREATE VIEW mark_meaning AS
FROM (VALUES
  ('noisy', 'n', 'the interval of the median stayed wider than asked although more inferences would not have helped'),
  ('budget', 'b', 'the time budget ended before the interval of the median was as narrow as asked'),
  ('unsteady', 'd', 'the window drifted or switched between levels: its interval is widened, and the next window may lie elsewhere'),
  ('load', 'l', 'something else wanted the CPUs: other work during the window (older runs: a load average above the number of cores)'),
  ('quota', 'q', 'a control group''s CPU quota stops the processes of the run for a part of each period: not the machine''s speed'),
  ('cores', 'c', 'the machine has fewer cores than its GPUs need at once: workers shared them, or had one each'),
  ('slowdown', 's', 'the hardware slowed the GPU down (heat, power brake) for more than 1 % of the window'),
  ('energy_suspect', 'e', 'the two measurements of energy disagree by more than 5 %, or readings are missing'),
  ('energy_integral', 'i', 'the device has no usable energy counter: energy is the integral of power alone'),
  ('energy_coarse', 'u', 'energy that is uncertain by more than 2 %: late or few readings, power that changed around the window, or a load in step with the sensor; the mark may be for net energy alone, and gross energy then has no u in tables'),
  ('no_power', 'm', 'no power was recorded while this cell was measured: no energy'),
  ('warm', 'w', 'the GPU had not cooled to the temperature that was asked for when the cell began'),
  ('foreign_processes', 'p', 'other processes were on the GPU'),
  ('gaps', 'g', 'more than 5 % of the window passed between inferences'),
  ('stalled', 'h', 'held up: nothing was finished for more than 3 % of the window, once or several times'),
  ('outside', 'o', 'inferences lie outside the measure phase: the clock or the units of the files are in doubt'),
  ('input_kept', 'k', 'known to be wrong, so never the best and without a verdict: TensorFlow and Keras whose input was copied to the GPU once (until 29 November 2026), uint8 input that was fed float32 (28 November 2026), or stock of PyTorch and torch.compile with scales folded into convolutions (until 29 November 2026)'),
  ('parity_failed', 'x', 'the output differs from the reference by more than the precision allows: left out of speed tables')
) AS catalogue (mark, sign, meaning);
