// What the page does when it is pointed at. Everything that matters is there without it.
(() => {
  "use strict";
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const element = (name, attributes = {}, text = "") => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  };
  const drawn = (name, attributes = {}, text = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  };
  const said = (value, digits) => (value === null ? "\u2014" : value.toFixed(digits).replace("-", "\u2212"));
  root.classList.add("scripted");

  // Light, dark, or as the system has it.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const wear = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.dataset.state = theme;
    button.textContent = { auto: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" }[theme];
  };
  button.hidden = false;
  button.addEventListener("click", () => wear(themes[(themes.indexOf(button.dataset.state) + 1) % 3]));
  wear("auto");

  // What is said of a thing that is pointed at, focused or touched.
  const tip = element("div", { id: "tip", role: "tooltip", hidden: "" });
  document.body.append(tip);
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    const left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6));
    const top = y + 18 + box.height > innerHeight ? Math.max(6, y - box.height - 12) : y + 18;
    tip.style.left = `${left}px`;
    tip.style.top = `${top}px`;
  };
  const show = (content, x, y) => {
    tip.replaceChildren(...(typeof content === "string" ? [document.createTextNode(content)] : content));
    tip.hidden = false;
    place(x, y);
  };
  const hide = () => { tip.hidden = true; };
  const spoken = (event) => event.target instanceof Element && event.target.closest("[data-tip]");
  document.addEventListener("pointermove", (event) => {
    const about = spoken(event);
    if (about) show(about.dataset.tip, event.clientX, event.clientY);
    else if (!(event.target instanceof Element && event.target.closest("[data-own-tip]"))) hide();
  });
  document.addEventListener("focusin", (event) => {
    const about = spoken(event);
    if (!about) return;
    const box = about.getBoundingClientRect();
    show(about.dataset.tip, box.left, box.bottom - 12);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true });

  // One tokenizer shown up wherever it is.
  document.addEventListener("pointerover", (event) => {
    const about = event.target instanceof Element && event.target.closest("[data-token]");
    const token = about ? about.dataset.token : null;
    for (const other of all("svg [data-token]")) {
      other.classList.toggle("faded", token !== null && other.dataset.token !== token);
    }
  });

  // Tables that sort by the column whose head is pressed; rows without a value stay at the end.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (!cell || !("sort" in cell.dataset)) return cell ? cell.textContent.trim() : "";
    return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
  };
  for (const table of all("table.sortable")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      const press = element("button", { type: "button", class: "sort" });
      press.append(...head.childNodes);
      head.append(press);
      press.addEventListener("click", () => {
        const first = head.dataset.first || "ascending";
        const now = head.getAttribute("aria-sort");
        const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        for (const body of table.tBodies) {
          const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
          rows.sort((a, b) => {
            const [one, other] = [key(a, column), key(b, column)];
            if (one === null || other === null) return (one === null) - (other === null);
            return sign * (typeof one === "number" ? one - other : String(one).localeCompare(String(other)));
          });
          body.append(...rows);
        }
      });
    });
  }

  // Any score against any generation measure.
  const ticks = (low, high, count) => {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw) || raw;
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) found.push(t);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  };
  const span = (cells) => {
    const ends = cells.flatMap((c) => [c[0], c[1] ?? c[0], c[2] ?? c[0]]);
    const low = Math.min(...ends), high = Math.max(...ends), pad = (high - low || Math.abs(high) || 1) * 0.12;
    return [low - pad, high + pad];
  };
  const explorer = document.getElementById("explorer");
  const explore = (x, y) => {
    const canvas = explorer.querySelector(".canvas");
    // As wide as there is room, so that letters keep their size on a phone.
    const [W, H, L, R, T, B] = [Math.max(300, Math.min(640, canvas.clientWidth || 640)), 420, 64, 16, 14, 56];
    const [score, measure] = [data.scores[x], data.measures[y]];
    const both = data.tokens.map((token, i) => ({ ...token, i, x: score.cells[i], y: measure.cells[i] }))
      .filter((point) => point.x && point.y);
    const svg = drawn("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    svg.setAttribute("aria-label", `${measure.label} against ${score.label}, ${both.length} tokenizers`);
    const text = (at, words, more = {}) => svg.append(drawn("text", { x: at[0], y: at[1], ...more }, words));
    const note = explorer.querySelector("output");
    canvas.replaceChildren(svg);
    if (both.length === 0) { note.textContent = "No tokenizer has both."; return; }
    const [xs, ys] = [span(both.map((p) => p.x)), span(both.map((p) => p.y))];
    const X = (v) => L + ((v - xs[0]) / (xs[1] - xs[0])) * (W - L - R);
    const Y = (v) => H - B - ((v - ys[0]) / (ys[1] - ys[0])) * (H - T - B);
    const [tx, ty] = [ticks(...xs, W / 100), ticks(...ys, 5)];
    for (const t of tx.found) {
      svg.append(drawn("line", { x1: X(t), x2: X(t), y1: T, y2: H - B, class: "rule" }));
      text([X(t), H - B + 18], said(t, tx.digits), { "text-anchor": "middle", class: "soft" });
    }
    for (const t of ty.found) {
      svg.append(drawn("line", { x1: L, x2: W - R, y1: Y(t), y2: Y(t), class: "rule" }));
      text([L - 8, Y(t) + 4], said(t, ty.digits), { "text-anchor": "end", class: "soft" });
    }
    text([(L + W - R) / 2, H - 14], score.label, { "text-anchor": "middle" });
    const up = { "text-anchor": "middle", transform: `rotate(-90 16 ${(T + H - B) / 2})` };
    text([16, (T + H - B) / 2], measure.label, up);
    const fitted = both.filter((p) => !p.control);
    const mean = (side) => fitted.reduce((sum, p) => sum + p[side][0], 0) / fitted.length;
    const [mx, my] = [mean("x"), mean("y")];
    const spread = fitted.reduce((sum, p) => sum + (p.x[0] - mx) ** 2, 0);
    if (fitted.length >= 4 && spread > 0) {
      const slope = fitted.reduce((sum, p) => sum + (p.x[0] - mx) * (p.y[0] - my), 0) / spread;
      const [from, to] = [Math.min(...fitted.map((p) => p.x[0])), Math.max(...fitted.map((p) => p.x[0]))];
      const at = (x) => Y(my + slope * (x - mx));
      svg.append(drawn("line", { x1: X(from), y1: at(from), x2: X(to), y2: at(to), class: "fit" }));
    }
    // A name stands where it covers no point and no other name; where there is no such place, pointing at the point tells.
    const taken = both.map((p) => [X(p.x[0]) - 6, Y(p.y[0]) - 6, X(p.x[0]) + 6, Y(p.y[0]) + 6]);
    const spot = (cx, cy, label) => {
      const wide = 7.2 * label.length;
      const places = [[10, -8, "start"], [-10, -8, "end"], [10, 17, "start"], [-10, 17, "end"], [0, -12, "middle"], [0, 22, "middle"]];
      for (const [dx, dy, anchor] of places) {
        const left = cx + dx - { start: 0, end: wide, middle: wide / 2 }[anchor], bottom = cy + dy + 3;
        const box = [left, bottom - 14, left + wide, bottom];
        if (box[0] < L || box[2] > W || box[1] < 0 || box[3] > H - B) continue;
        if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
        taken.push(box);
        return [cx + dx, cy + dy, anchor];
      }
      return null;
    };
    for (const p of both) {
      const words = `${p.label}. ${score.label} ${said(p.x[0], score.digits)}. ${measure.label} ${said(p.y[0], measure.digits)}`;
      const group = drawn("g", { "data-token": p.i, "data-tip": words });
      if (p.x[1] !== null) group.append(drawn("line", { x1: X(p.x[1]), x2: X(p.x[2]), y1: Y(p.y[0]), y2: Y(p.y[0]), stroke: p.colour }));
      if (p.y[1] !== null) group.append(drawn("line", { x1: X(p.x[0]), x2: X(p.x[0]), y1: Y(p.y[1]), y2: Y(p.y[2]), stroke: p.colour }));
      group.append(drawn("circle", { cx: X(p.x[0]), cy: Y(p.y[0]), r: 6, fill: p.control ? "transparent" : p.colour, stroke: p.colour }));
      const place = spot(X(p.x[0]), Y(p.y[0]), p.label);
      if (place) group.append(drawn("text", { x: place[0], y: place[1], fill: p.colour, "text-anchor": place[2], class: "name" }, p.label));
      svg.append(group);
    }
    note.textContent = data.relations[`${x},${y}`] || `n = ${both.length}`;
  };
  if (explorer && data.scores.length && data.measures.length) {
    const [x, y] = all("select", explorer);
    data.scores.forEach((s, i) => x.append(element("option", { value: i }, s.label)));
    data.measures.forEach((m, i) => y.append(element("option", { value: i }, m.label)));
    [x.value, y.value] = data.first;
    const draw = () => explore(Number(x.value), Number(y.value));
    x.addEventListener("change", draw);
    y.addEventListener("change", draw);
    explorer.hidden = false;
    draw();
    for (const cell of all("[data-pair]")) {
      const press = element("button", { type: "button" });
      press.append(...cell.childNodes);
      cell.append(press);
      cell.addEventListener("click", () => {
        [x.value, y.value] = cell.dataset.pair.split(",");
        draw();
        explorer.scrollIntoView({ block: "center", behavior: "smooth" });
      });
    }
  }

  // The heat map by another coefficient. None looks like 1 unless it is.
  const coefficient = (r) => {
    if (Math.abs(r) === 1) return said(r, 0);
    const digits = [2, 3, 4].find((d) => Math.abs(Number(r.toFixed(d))) < 1) || 4;
    return said(Math.sign(r) * Math.min(Math.abs(r), 0.9999), digits);
  };
  const shade = (r) => {
    const end = r < 0 ? [1, 115, 178] : [213, 94, 0];
    return [245, 245, 242].map((c, i) => Math.round(c + (end[i] - c) * Math.abs(r)));
  };
  // Whether white has more contrast (WCAG 2) with a colour than black.
  const dark = (channels) => {
    const [r, g, b] = channels.map((c) => (c <= 10 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    const light = 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    return 1.05 / light > light / 0.05;
  };
  for (const choice of all("input[name=coefficient]")) {
    choice.addEventListener("change", () => {
      for (const cell of all("td[data-pearson]")) {
        const value = cell.dataset[choice.value] === "" ? null : Number(cell.dataset[choice.value]);
        cell.firstElementChild.textContent = value === null ? said(null) : coefficient(value);
        cell.style.background = value === null ? "" : `rgb(${shade(value).join(" ")})`;
        cell.classList.toggle("strong", value !== null && dark(shade(value)));
        cell.classList.toggle("clear", `${choice.value}Clear` in cell.dataset);
      }
    });
  }

  // What is said of a cell is said to a keyboard too; a button within takes the focus for its cell.
  for (const about of all(":is(td, th, .bar, span)[data-tip]")) {
    if (!about.querySelector("button")) about.tabIndex = 0;
  }

  // The same place in every grid of a row, enlarged side by side.
  for (const row of all(".grids[data-tile]")) {
    const tile = Number(row.dataset.tile), pitch = tile + 2;
    const pictures = all("img", row);
    for (const picture of pictures) {
      picture.dataset.ownTip = "";
      picture.addEventListener("pointermove", (event) => {
        const box = picture.getBoundingClientRect();
        const scale = picture.naturalWidth / box.width;
        const column = Math.floor(((event.clientX - box.left) * scale) / pitch);
        const line = Math.floor(((event.clientY - box.top) * scale) / pitch);
        const cuts = pictures.map((other) => {
          const figure = element("figure");
          const canvas = element("canvas", { width: tile, height: tile });
          canvas.getContext("2d").drawImage(other, column * pitch, line * pitch, tile, tile, 0, 0, tile, tile);
          figure.append(canvas, element("figcaption", {}, other.dataset.title));
          return figure;
        });
        const strip = element("div", { class: "lens" });
        strip.append(...cuts);
        show([strip], event.clientX, event.clientY);
      });
      picture.addEventListener("pointerleave", hide);
    }
  }

  // Maps of latents: one point per image, the same image lit up in all of them.
  for (const holder of all(".maps")) {
    const map = data.maps[Number(holder.dataset.map)];
    const sprite = holder.querySelector("img");
    const choice = holder.querySelector("select");
    const names = Object.keys(map.attributes);
    names.forEach((name) => choice.append(element("option", {}, name)));
    if (map.first) choice.value = map.first;
    const points = [];
    const light = (index) => points.forEach((own) => own.forEach((p, i) => p.classList.toggle("lit", i === index)));
    map.tokens.forEach((token) => {
      const figure = element("figure");
      const svg = drawn("svg", { viewBox: "-30 -30 1060 1060", role: "img", "data-own-tip": "" });
      svg.setAttribute("aria-label", `Map of the latents of ${token.label}`);
      const own = token.x.map((x, i) => drawn("circle", { cx: x, cy: 1000 - token.y[i], r: 13 }));
      svg.append(...own);
      points.push(own);
      figure.append(element("figcaption", {}, token.label), svg);
      holder.querySelector(".canvas").append(figure);
      svg.addEventListener("pointermove", (event) => {
        const box = svg.getBoundingClientRect();
        const at = [((event.clientX - box.left) / box.width) * 1060 - 30, 1030 - ((event.clientY - box.top) / box.height) * 1060];
        let best = -1, least = 70 ** 2;
        token.x.forEach((x, i) => {
          const distance = (x - at[0]) ** 2 + (token.y[i] - at[1]) ** 2;
          if (distance < least) [best, least] = [i, distance];
        });
        light(best);
        if (best < 0) { hide(); return; }
        const canvas = element("canvas", { width: map.side, height: map.side, class: "thumbnail" });
        const [column, line] = [best % map.columns, Math.floor(best / map.columns)];
        canvas.getContext("2d").drawImage(sprite, column * map.side, line * map.side, map.side, map.side, 0, 0, map.side, map.side);
        const shown = names.filter((name) => map.attributes[name][best] === "1").join(", ");
        show([canvas, element("p", {}, shown)], event.clientX, event.clientY);
      });
      svg.addEventListener("pointerleave", () => { light(-1); hide(); });
    });
    const paint = () => {
      const bits = map.attributes[choice.value] || "";
      points.forEach((own) => own.forEach((p, i) => p.classList.toggle("has", bits[i] === "1")));
    };
    choice.addEventListener("change", paint);
    holder.hidden = false;
    paint();
  }
})();
