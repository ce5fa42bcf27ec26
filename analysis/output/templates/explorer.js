"use strict";
// The first screen: what `invoke recommend` says under the limits of the sliders. Figures, orders and words come ready made
// (analysis/comparisons/decision_table.py); here cells that miss a limit are dropped and the first of the others is taken.
const decisions = (() => {
  const fill = (phrase, words) => phrase.replace(/\{(\w+)\}/g, (_, name) => words[name]);
  const capital = (title) => title.slice(0, 1).toUpperCase() + title.slice(1);
  const [VALUE, LOW, HIGH, SURE, TEXT] = [0, 1, 2, 3, 4];
  const known = (cell, name) => cell.figures[name] !== undefined;
  const bounded = (a) => a[LOW] !== null && a[HIGH] !== null;
  const overlap = (a, b) => bounded(a) && bounded(b) && a[LOW] <= b[HIGH] && b[LOW] <= a[HIGH];
  const apart = (a, b, factor) =>
    bounded(a) && bounded(b) && a[SURE] && b[SURE] && (a[LOW] > factor * b[HIGH] || b[LOW] > factor * a[HIGH]);

  // limits: [{ name, bound, text }] in the order in which they are shown. Returns { winner, meetsLimits, rivals, lines }.
  return function decide(table, objective, limits) {
    const say = table.phrases;
    // which phrase says that two cells are not of one card and run; "" where they are
    const elsewhere = (a, b) => {
      if (a.card === b.card) return a.run !== b.run ? "in another run" : "";
      return table.is_known[a.card] && table.is_known[b.card] ? "on another card" : "perhaps on another card";
    };
    const quantity = (name) => table.quantities[name];
    const excess = (limit, cell) => {
      if (!known(cell, limit.name)) return Infinity;
      const value = cell.figures[limit.name][VALUE];
      if (quantity(limit.name).better > 0) return value <= 0 ? Infinity : limit.bound / value;
      return value / limit.bound;
    };
    const met = (limit, cell) => excess(limit, cell) <= 1;
    const better = quantity(objective).better;
    const figure = (cell) => cell.figures[objective];
    const ranked = table.order[objective].map((place) => table.cells[place]);
    const all = table.cells.filter((cell) => known(cell, objective));
    const meetsLimits = ranked.filter((cell) => limits.every((limit) => met(limit, cell)));
    const asked = limits.map((limit) => fill(say.asked, {
      title: quantity(limit.name).title, sign: quantity(limit.name).better < 0 ? "at most" : "at least",
      bound: limit.text, unit: quantity(limit.name).behind,
    })).join(" and ");
    const under = asked ? fill(say.under, { asked }) : "";
    if (!meetsLimits.length) return { winner: null, meetsLimits, rivals: [], lines: nobody() };

    const winner = meetsLimits[0];
    const others = meetsLimits.slice(1, table.rivals).filter((cell) => cell.configuration !== winner.configuration);
    const factor = (cell) => (winner.card !== cell.card ? table.far_apart : 1);
    const rivals = others.filter((cell) => !apart(figure(winner), figure(cell), factor(cell)));
    const figures = ["throughput", "latency", "power", "joules"].filter((name) => known(winner, name))
      .map((name) => fill(say.figure, { title: quantity(name).title, figure: winner.figures[name][TEXT] }));
    const count = meetsLimits.length;
    const among = fill(say[(count === 1 ? "only" : "among") + (limits.length ? (count === 1 ? " that meets" : " that meet") : "")], { count });
    const lines = [
      fill(say.best, { name: winner.name, best: better > 0 ? "highest" : "lowest", title: quantity(objective).title, under, among }),
      `  ${figures.join(", ")}`,
      runnerUp(others[0]),
    ];
    for (const where of Object.keys(table.elsewhere)) {
      for (const published of [false, true]) {
        const alike = rivals.filter((cell) => elsewhere(winner, cell) === where && (winner.published || cell.published) === published);
        if (alike.length) lines.push(unclear(alike, where, published));
      }
    }
    for (const limit of limits) {
      const [, low, high] = winner.figures[limit.name];
      const worst = quantity(limit.name).better < 0 ? high : low;
      const certain = worst === null || (quantity(limit.name).better < 0 ? worst <= limit.bound : worst >= limit.bound);
      if (!certain) lines.push(fill(say.uncertain, { option: quantity(limit.name).option, bound: limit.text }));
    }
    lines.push(...unknown());
    for (const limit of limits) lines.push(...changes(limit));
    lines.push(table.front, ...winner.marks.map((place) => table.marks[place]));
    return { winner, meetsLimits, rivals, lines: lines.filter(Boolean) };

    function runnerUp(other) {
      if (!other) return say["no runner-up"];
      const value = figure(winner)[VALUE];
      const share = value ? Math.abs(100 * (figure(other)[VALUE] / value - 1)) : 0;
      return fill(say["runner-up"], {
        name: other.name, figure: figure(other)[TEXT], share: share.toFixed(1), direction: better > 0 ? "less" : "more",
        elsewhere: say[elsewhere(winner, other)] || "",
      });
    }

    // rivals of which one line says the same
    function unclear(rivals, where, published) {
      const tests = {
        overlap,
        unknown: (best, other) => !bounded(best) || !bounded(other),
        "one worker": (best, other) => !best[SURE] || !other[SURE],
      };
      const reasons = Object.entries(tests).flatMap(([name, test]) => {
        const count = rivals.filter((cell) => test(figure(winner), figure(cell))).length;
        return count ? [say[count === rivals.length ? name : `some ${name}`]] : [];
      });
      if (where) reasons.push(say[table.elsewhere[where]]);
      const more = rivals.length > table.names ? ` and ${rivals.length - table.names} more` : "";
      const workers = table.workers[Math.max(...[winner, ...rivals].map((cell) => cell.workers))];
      const names = rivals.slice(0, table.names).map((cell) => cell.name).join(", ");
      let advice = fill(say["more workers"], { workers });
      if (published) {
        advice = say.published;
      } else if (where) {
        const command = table.bench.length ? `: ${inOneRun(rivals[0], workers)}` : ".";
        advice = fill(say[where === "in another run" ? "one run" : "one card"], { where: table.where, command });
      }
      return fill(say.unclear, { names, more, reasons: reasons.join("; "), advice });
    }

    // the command that measures the winner and another cell on one device
    function inOneRun(other, workers) {
      const words = table.bench.map(([option, usual, values], place) => {
        const own = [winner, other].map((cell) => values[cell.options[place]]).filter((value) => value !== null);
        const unique = [...new Set(own)];
        return unique.length && !(unique.length === 1 && unique[0] === usual) ? `${option} ${unique.join(",")}` : "";
      });
      return [table.command, ...words.filter(Boolean), `--replicates ${workers}`].join(" ");
    }

    function changes(limit) {
      const one = quantity(limit.name);
      const rest = limits.filter((other) => other !== limit);
      const allowed = (cell) => rest.every((other) => met(other, cell)) && excess(limit, cell) < Infinity;
      const best = better * figure(winner)[VALUE];
      const words = { option: one.option, unit: one.behind };
      const found = [];
      const outside = all.filter((cell) => allowed(cell) && !met(limit, cell) && better * figure(cell)[VALUE] > best);
      if (outside.length) {
        const entering = outside.reduce((a, b) => (excess(limit, b) < excess(limit, a) ? b : a));
        found.push(fill(say.loosened, { ...words, bound: entering.reached[limit.name], name: entering.name, figure: figure(entering)[TEXT] }));
      }
      const tighter = { ...limit, bound: winner.figures[limit.name][VALUE] };
      const left = ranked.find((cell) => cell !== winner && allowed(cell) && excess(tighter, cell) < 1);
      const then = left ? fill(say.then, { name: left.name }) : say["then nobody"];
      found.push(fill(say.tightened, { ...words, beyond: one.better < 0 ? "Below" : "Above", bound: winner.reached[limit.name], then }));
      return found;
    }

    function nobody() {
      const every = table.cells.length;
      const lines = [limits.length ? fill(say.nobody, { under }) : fill(say["nothing known"], { title: quantity(objective).title })];
      lines.push(...unknown());
      if (all.length < every && limits.length) {
        lines.push(fill(say["objective unknown"], { count: every - all.length, all: every, Title: capital(quantity(objective).title) }));
      }
      const misses = all.map((cell) => [Math.max(...limits.map((limit) => excess(limit, cell))), cell]).filter(([miss]) => miss < Infinity);
      if (misses.length) {
        const [, near] = misses.reduce((a, b) => (b[0] < a[0] ? b : a));
        const lacking = limits.filter((limit) => !met(limit, near)).map((limit) => missed(limit, near)).join(" and ");
        lines.push(fill(say.nearest, { name: near.name, missed: lacking }));
      }
      return lines;
    }

    function unknown() {
      const counts = limits.map((limit) => [limit, table.cells.filter((cell) => !known(cell, limit.name)).length]);
      return counts.filter(([, count]) => count).map(([limit, count]) =>
        fill(say["limit unknown"], { count, all: table.cells.length, Title: capital(quantity(limit.name).title) }));
    }

    function missed(limit, near) {
      const one = quantity(limit.name);
      const words = { title: one.title, option: one.option, bound: limit.text };
      if (limit.name === "precision") return fill(say["too coarse"], { ...words, figure: near.precision });
      return fill(say.missed, {
        ...words, figure: near.figures[limit.name][TEXT], factor: excess(limit, near).toFixed(2), side: one.better < 0 ? "over" : "under",
      });
    }
  };
})();

(() => {
  const explorer = document.getElementById("explorer");
  if (!explorer) return;
  const groups = [...explorer.querySelectorAll(".group")];
  const tables = groups.map((group) => JSON.parse(group.querySelector("script").textContent));
  const control = (name) => explorer.querySelector(`[data-control="${name}"]`);
  const names = ["latency", "power", "precision"];
  const MOST_OUTLINED = 12;
  explorer.querySelector(".controls").hidden = false;

  const chosen = () => Number(control("group").value);
  const limitsOf = (table) => names.flatMap((name) => {
    const steps = table.steps[name] || [];
    const place = Number(control(name).value);
    return place < steps.length ? [{ name, bound: steps[place][0], text: steps[place][1] }] : [];
  });

  // A group has steps of its own: its sliders begin at "no limit".
  const choose = () => {
    const table = tables[chosen()];
    groups.forEach((group, place) => { group.hidden = place !== chosen(); });
    for (const name of names) {
      const steps = table.steps[name] || [];
      const slider = control(name);
      slider.max = steps.length;
      slider.value = steps.length;
      slider.closest("label").hidden = !steps.length;
    }
    for (const option of control("objective").options) option.hidden = option.disabled = !table.order[option.value];
    if (!table.order[control("objective").value]) control("objective").value = "throughput";
    update();
  };

  const update = () => {
    const [group, table] = [groups[chosen()], tables[chosen()]];
    const limits = limitsOf(table);
    for (const name of names) {
      const limit = limits.find((one) => one.name === name);
      const sign = table.quantities[name] && table.quantities[name].better < 0 ? "at most" : "at least";
      const text = limit ? `${sign} ${limit.text}${table.quantities[name].behind}` : "any";
      control(name).setAttribute("aria-valuetext", text);
      control(name).closest("label").querySelector("output").value = text;
    }
    const found = decisions(table, control("objective").value, limits);
    group.querySelector(".said").replaceChildren(...found.lines.map((line) => {
      const said = document.createElement("p");
      said.textContent = line;
      return said;
    }));
    // where nearly nothing is clear (one worker each), outlines would hide what they mark
    const [meetsLimits, rivals] = [new Set(found.meetsLimits), new Set(found.rivals.length > MOST_OUTLINED ? [] : found.rivals)];
    for (const mark of group.querySelectorAll(".cell")) {
      const cell = table.cells[mark.dataset.i];
      mark.classList.toggle("out", !meetsLimits.has(cell));
      mark.classList.toggle("rival", rivals.has(cell));
    }
    for (const svg of group.querySelectorAll("svg[data-x]")) draw(svg, table, found.winner, limits);
    const options = limits.map((limit) => ` ${table.quantities[limit.name].option} ${limit.text}`).join("");
    const objective = control("objective").value === "throughput" ? "" : ` --objective ${control("objective").value}`;
    group.querySelector(".again").textContent = group.dataset.command + objective + options;
  };

  // Where a limit lies in a panel: latency as an upright line; power, the product of the other panel's axes, as a slope.
  const draw = (svg, table, winner, limits) => {
    const scale = (text, falls) => {
      const [low, high, start, length] = text.split(" ").map(Number);
      return (value) => {
        const share = Math.min(Math.max(Math.log(value / low) / Math.log(high / low), 0), 1);
        return start + length * (falls ? 1 - share : share);
      };
    };
    const [across, up] = [scale(svg.dataset.across, false), scale(svg.dataset.up, true)];
    const [left, right] = svg.dataset.across.split(" ").map(Number);
    const [foot, top] = svg.dataset.up.split(" ").map(Number);
    const power = limits.find((limit) => limit.name === "power");
    const latency = limits.find((limit) => limit.name === "latency");
    let path = "";
    if (svg.dataset.x === "latency" && latency) path = `M${across(latency.bound)},${up(foot)}V${up(top)}`;
    if (svg.dataset.x === "joules" && power) {
      const rate = (millijoules) => power.bound / millijoules * 1e3;
      const [from, to] = [Math.max(left, power.bound * 1e3 / top), Math.min(right, power.bound * 1e3 / foot)];
      if (from < to) path = `M${across(from)},${up(rate(from))}L${across(to)},${up(rate(to))}`;
    }
    svg.querySelector(".bound").setAttribute("d", path);
    const ring = svg.querySelector(".ring");
    const figure = winner && winner.figures[svg.dataset.x];
    if (!ring) return;
    ring.style.display = figure ? "" : "none";
    if (figure) {
      ring.setAttribute("cx", across(figure[0]));
      ring.setAttribute("cy", up(winner.figures.throughput[0]));
    }
  };

  control("group").addEventListener("change", choose);
  control("objective").addEventListener("change", update);
  for (const name of names) control(name).addEventListener("input", update);
  choose();
})();
