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
  const hide = () => { tip.hidden = true; if (on) on.classList.remove("on"); on = null; };
  const show = (mark, x, y) => {
    hide();
    on = mark;
    mark.classList.add("on");
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
