"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Sorting: a click (or Enter, Space) on a heading; again for the other direction. Places without a figure come last.
  const value = (cell) => (cell.dataset.v === undefined || cell.dataset.v === "" ? null : cell.dataset.v);
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  for (const table of all("table.sorts")) {
    const headings = all("thead th", table);
    const body = table.tBodies[0];
    headings.forEach((heading, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const falling = heading.getAttribute("aria-sort") === "ascending"
          || (heading.dataset.first === "descending" && !heading.hasAttribute("aria-sort"));
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [value(row.cells[place]), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return falling ? compare(b, a) : compare(a, b);
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Copying a row: as Markdown, as the command that measures it again, and as its cells' recipes where there is such a task.
  const { recipe, runs } = (document.getElementById("page-script") || { dataset: {} }).dataset;
  const menu = document.createElement("div");
  menu.id = "copies";
  menu.hidden = true;
  menu.setAttribute("role", "menu");
  document.body.append(menu);
  const notice = document.createElement("div");
  notice.className = "unseen";
  notice.setAttribute("role", "status");
  document.body.append(notice);
  const plain = (cell) => (cell.firstChild ? cell.firstChild.textContent.trim() : "");
  const whole = (cell) => [...cell.childNodes].filter((node) => !(node.matches && node.matches("button.copy")))
    .map((node) => node.textContent.trim()).filter(Boolean).join(" ");
  const markdown = (row) => {
    const line = (texts) => `| ${texts.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
    const headings = [...row.closest("table").tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const aligned = headings.map((_, place) => (row.cells[place].classList.contains("label") ? "---" : "---:"));
    return [line(headings), line(aligned), line([...row.cells].map(whole))].join("\n");
  };
  const recipes = (row) => [...row.cells].filter((cell) => cell.title)
    .map((cell) => [recipe, cell.title, runs].filter(Boolean).join(" ")).join("\n");
  const put = (text) => {
    const done = () => { notice.textContent = "copied"; };
    const byHand = () => {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      done();
    };
    if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, byHand); else byHand();
  };
  const close = (back) => {
    if (menu.hidden) return;
    menu.hidden = true;
    if (back && menu.from) menu.from.focus();
  };
  const offer = (button, row) => {
    const choices = [["as Markdown", () => markdown(row)]];
    if (row.dataset.command) choices.push(["its invoke command", () => row.dataset.command]);
    if (recipe && recipes(row)) choices.push(["its recipe", () => recipes(row)]);
    menu.from = button;
    menu.replaceChildren(...choices.map(([name, text]) => {
      const choice = document.createElement("button");
      choice.type = "button";
      choice.setAttribute("role", "menuitem");
      choice.textContent = `Copy ${name}`;
      choice.addEventListener("click", () => { menu.dataset.copied = text(); put(menu.dataset.copied); close(true); });
      return choice;
    }));
    menu.hidden = false;
    const place = button.getBoundingClientRect();
    menu.style.left = `${Math.max(4, Math.min(place.left, innerWidth - menu.offsetWidth - 4))}px`;
    menu.style.top = `${place.bottom + menu.offsetHeight > innerHeight ? place.top - menu.offsetHeight : place.bottom}px`;
    menu.firstChild.focus();
  };
  document.addEventListener("click", (event) => { if (!menu.contains(event.target) && !event.target.closest("button.copy")) close(false); });
  addEventListener("scroll", () => close(false), { passive: true });
  menu.addEventListener("keydown", (event) => {
    const choices = all("button", menu);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") close(true);
    if (!step) return;
    event.preventDefault();
    choices[(choices.indexOf(document.activeElement) + step + choices.length) % choices.length].focus();
  });
  for (const row of all(".block tbody tr")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.setAttribute("aria-label", `copy the row ${plain(row.cells[0])} ${plain(row.cells[1])}`);
    button.setAttribute("aria-haspopup", "menu");
    button.addEventListener("click", () => (menu.hidden || menu.from !== button ? offer(button, row) : close(true)));
    row.cells[0].append(button);
  }

  // Filtering: every word must stand somewhere in the row or in the heading of its table.
  const words = document.getElementById("filter");
  const figure = document.getElementById("figure");
  const count = document.getElementById("count");
  if (words && figure && count) {
    const blocks = all(".block").map((block) => ({
      block,
      metric: block.dataset.metric,
      about: block.dataset.about.toLowerCase(),
      rows: all("tbody tr", block).map((row) => [row, row.dataset.about.toLowerCase()]),
    }));
    const further = all("details.further");
    const apply = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let [shown, total] = [0, 0];
      for (const { block, metric, about, rows } of blocks) {
        const meant = !figure.value || figure.value === metric;
        let left = 0;
        for (const [row, text] of rows) {
          const kept = meant && wanted.every((word) => about.includes(word) || text.includes(word));
          row.hidden = !kept;
          left += kept;
        }
        block.hidden = left === 0;
        shown += left;
        total += rows.length;
      }
      for (const part of further) {
        const any = all(".block", part).some((block) => !block.hidden);
        part.hidden = !any;
        if (any && (figure.value || wanted.length)) part.open = true;
      }
      count.value = shown === total ? `${total} rows` : `${shown} of ${total} rows`;
    };
    words.addEventListener("input", apply);
    figure.addEventListener("change", apply);
    words.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { words.value = ""; apply(); }
    });
    apply();
  }

  // Values of a plot: under the pointer, or with the arrow keys when the plot has the focus.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);
  let on = null;
  // in the chart of the first screen a cell has a mark in each panel
  const twins = (mark) => (mark.dataset.i === undefined ? [mark] : all(`.at[data-i="${mark.dataset.i}"]`, mark.closest("figure")));
  const hide = () => { tip.hidden = true; if (on) twins(on).forEach((one) => one.classList.remove("on")); on = null; };
  const show = (mark, x, y) => {
    hide();
    on = mark;
    twins(mark).forEach((one) => one.classList.add("on"));
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 18}px`;
  };
  for (const plot of all("figure")) {
    const marks = all(".at", plot);
    for (const mark of marks) {
      const title = mark.querySelector("title");
      mark.dataset.tip = title.textContent;
      title.remove();
    }
    if (!marks.length) continue;
    plot.tabIndex = 0;
    let place = -1;
    plot.addEventListener("pointermove", (event) => {
      const mark = event.target.closest(".at");
      if (mark) show(mark, event.clientX, event.clientY); else hide();
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      place = (place + step + marks.length + (place < 0 && step < 0 ? 1 : 0)) % marks.length;
      const box = marks[place].getBoundingClientRect();
      show(marks[place], box.left + box.width / 2, box.top + box.height / 2);
    });
  }

  // A link to what is folded away opens it.
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();

  // Zooming into a picture: its view box is what is shown of it. Ctrl and the wheel, so that the page still scrolls.
  for (const svg of all("figure.zooms > svg")) {
    const box = svg.viewBox.baseVal;
    const whole = [box.x, box.y, box.width, box.height];
    const show = (x, y, width, height) => svg.setAttribute("viewBox", [x, y, width, height].join(" "));
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const place = svg.getBoundingClientRect();
      const factor = Math.min(1.25 ** Math.sign(event.deltaY), whole[2] / box.width);
      const across = (event.clientX - place.left) / place.width;
      show(box.x + across * box.width * (1 - factor), box.y, box.width * factor, box.height);
    }, { passive: false });
    let from = null;
    svg.addEventListener("pointerdown", (event) => { from = [event.clientX, box.x]; svg.setPointerCapture(event.pointerId); });
    svg.addEventListener("pointermove", (event) => {
      if (from) show(from[1] - (event.clientX - from[0]) * box.width / svg.getBoundingClientRect().width, box.y, box.width, box.height);
    });
    svg.addEventListener("pointerup", () => { from = null; });
    svg.addEventListener("dblclick", () => show(...whole));
    svg.setAttribute("preserveAspectRatio", "none");
    svg.style.aspectRatio = `${whole[2]} / ${whole[3]}`;
  }
})();
