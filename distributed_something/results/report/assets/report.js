"use strict";
// Adds a table with search, sorting, and filters, copy buttons, and tooltips. The page is complete without it.
// All text is set with textContent, because names and logs may contain anything.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const strings = data.strings;
  const jobs = data.jobs;
  const count = jobs.name.length;
  const ROW_PIXELS = 30, EXTRA_ROWS = 12, NONE = "–", UNKNOWN = "unknown", ALREADY_THERE = "already there";
  const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

  // Text ------------------------------------------------------------------------------------------------------------

  function cleanText(text) {
    const plain = String(text).replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]/g, "");
    return plain.replace(HIDDEN, (character) => {
      const digits = character.codePointAt(0).toString(16);
      const [letter, length] = digits.length < 3 ? ["x", 2] : digits.length < 5 ? ["u", 4] : ["U", 8];
      return `\\${letter}${digits.padStart(length, "0")}`;
    });
  }

  function makeElement(name, className, ...children) {
    const element = document.createElement(name);
    if (className) element.className = className;
    for (const child of children) {
      element.append(child instanceof Node ? child : cleanText(child));
    }
    return element;
  }

  const round = (number, decimals) => Math.floor(number * 10 ** decimals + 0.5) / 10 ** decimals;

  function trimNumber(number, decimals) {
    const rounded = round(number, decimals);
    const digits = Number.isInteger(rounded) ? 0 : decimals;
    return rounded.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  function joinUnits(number, size, large, small) {
    const rest = number % size;
    return `${Math.floor(number / size)} ${large}` + (rest ? ` ${rest} ${small}` : "");
  }

  function formatSpan(seconds) {
    if (seconds === null || seconds === undefined) return UNKNOWN;
    if (seconds < 9.95) return `${trimNumber(seconds, 1)} s`;
    if (seconds < 89.5) return `${round(seconds, 0)} s`;
    if (seconds < 9.95 * 60) return `${trimNumber(seconds / 60, 1)} min`;
    const minutes = round(seconds / 60, 0);
    if (minutes < 90) return `${minutes} min`;
    if (minutes < 2880) return joinUnits(minutes, 60, "h", "min");
    return joinUnits(round(minutes / 60, 0), 24, "d", "h");
  }

  function formatKibibytes(size) {
    if (size === null) return UNKNOWN;
    const units = ["KiB", "MiB", "GiB", "TiB"];
    let power = 0;
    while (size / 1024 ** power >= 1024 && power < units.length - 1) power += 1;
    return size ? `${trimNumber(size / 1024 ** power, 1)} ${units[power]}` : "0 B";
  }

  const formatCount = (number) => (number === null ? UNKNOWN : number.toLocaleString("en-US"));

  // The program's name and group values are in its addresses as characters 1, 2, 3, …
  function fillTemplate(text, row) {
    return text.replace(/[\x01-\x09]/g, (mark) => {
      const number = mark.charCodeAt(0);
      return number === 1 ? jobs.name[row] : strings[jobs.groups[number - 2][1][row]];
    });
  }

  const hasProgram = (row) => strings[jobs.state[row]] !== ALREADY_THERE;
  const describeCause = (row) => {
    const id = strings[jobs.cause[row]];
    return Object.hasOwn(data.causes, id) ? data.causes[id] : id;
  };

  // Copying ---------------------------------------------------------------------------------------------------------

  function selectContent(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  async function copyContent(button, element) {
    try {
      await navigator.clipboard.writeText(element.textContent);
      button.textContent = "copied";
    } catch {
      selectContent(element);
      button.textContent = document.execCommand("copy") ? "copied" : "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }

  function makeCopyBlock(label, text) {
    const button = makeElement("button", "copy", "copy");
    button.type = "button";
    const words = text.split(" ").flatMap((word) => [" ", makeElement("span", "word", word)]).slice(1);
    const block = makeElement("pre", "", ...words);
    button.addEventListener("click", () => copyContent(button, block));
    return makeElement("div", "command", makeElement("p", "muted", label), button, block);
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", () => copyContent(button, button.parentElement.querySelector("pre")));
  }

  // The table -------------------------------------------------------------------------------------------------------

  const COLUMNS = [
    { key: "name", title: "job", className: "job", text: (row) => jobs.name[row] },
    { key: "state", title: "state", className: "state", text: (row) => strings[jobs.state[row]] },
    { key: "seconds", title: "time", className: "time", text: (row) => formatValue(row, "seconds", formatSpan) },
    { key: "attempts", title: "attempts", className: "number attempts", text: (row) => formatCount(jobs.attempts[row]) },
    { key: "memory", title: "peak memory", className: "number memory", text: (row) => formatValue(row, "memory", formatKibibytes) },
    { key: "exit", title: "exit code", className: "number exit", text: (row) => jobs.exit[row] ?? NONE },
    { key: "started", title: "began after", className: "number", text: (row) => formatSpan(jobs.started[row]) + (jobs.taken[row] ? "*" : "") },
    { key: "machine", title: "machine", className: "machine", text: (row) => strings[jobs.machine[row]] || UNKNOWN },
    { key: "cause", title: "cause of failure", className: "cause-name", text: describeCause },
  ];
  const IS_TEXT = new Set(["name", "state", "machine", "cause"]);
  const FILTERS = [
    ["all", () => true],
    ["failed", (row) => strings[jobs.state[row]] === "failed"],
    ["retried", (row) => Object.hasOwn(data.earlier, row) || jobs.attempts[row] > 1],
    ["already there", (row) => !hasProgram(row)],
  ];
  const view = { query: "", filter: "all", cause: "", sort: "seconds", isDescending: true, rows: [], open: -1, openPixels: 0 };
  let parts = null;
  let longest = 0;
  for (const seconds of jobs.seconds) longest = Math.max(longest, seconds ?? 0);

  function formatValue(row, key, format) {
    const value = jobs[key][row];
    return value === null && !hasProgram(row) ? NONE : format(value);
  }

  const texts = new Array(count);
  function getSearchText(row) {
    if (texts[row] === undefined) {
      const values = jobs.groups.map(([, column]) => (column[row] === null ? "" : strings[column[row]]));
      texts[row] = [jobs.name[row], strings[jobs.machine[row]], strings[jobs.state[row]], strings[jobs.cause[row]],
        describeCause(row), strings[jobs.reason[row]], ...values].join("\n").toLowerCase();
    }
    return texts[row];
  }

  function getSortValue(row) {
    if (view.sort === "name") return jobs.name[row];
    if (view.sort === "cause") return describeCause(row);
    return IS_TEXT.has(view.sort) ? strings[jobs[view.sort][row]] : jobs[view.sort][row];
  }

  // Unknown values are last in either direction; equal ones stay in the order of the page's data.
  function compareRows(first, second) {
    const [one, two] = [getSortValue(first), getSortValue(second)];
    const [isOneEmpty, isTwoEmpty] = [one === null || one === "", two === null || two === ""];
    if (isOneEmpty || isTwoEmpty) return isOneEmpty - isTwoEmpty || first - second;
    const order = one < two ? -1 : one > two ? 1 : 0;
    return (view.isDescending ? -order : order) || first - second;
  }

  function selectRows() {
    const isShown = FILTERS.find(([name]) => name === view.filter)[1];
    const words = view.query.toLowerCase().split(/\s+/).filter(Boolean);
    view.rows = [];
    for (let row = 0; row < count; row += 1) {
      if (!isShown(row) || (view.cause && strings[jobs.cause[row]] !== view.cause)) continue;
      if (words.every((word) => getSearchText(row).includes(word))) view.rows.push(row);
    }
    view.rows.sort(compareRows);
    if (!view.rows.includes(view.open)) view.open = -1;
  }

  function updateTable() {
    selectRows();
    const total = data.total > count ? `${count.toLocaleString("en-US")} listed of ${formatCount(data.total)}` : formatCount(count);
    const cause = view.cause ? `, cause ${view.cause}` : "";
    parts.status.textContent = cleanText(`${formatCount(view.rows.length)} of ${total} jobs${cause}`);
    for (const button of parts.filters.children) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === view.filter && !view.cause));
    }
    for (const [number, column] of COLUMNS.entries()) {
      const header = parts.headers[number];
      header.setAttribute("aria-sort", column.key !== view.sort ? "none" : view.isDescending ? "descending" : "ascending");
    }
    parts.scroller.scrollTop = 0;
    drawRows(true);
  }

  function makeSpacer(pixels) {
    const row = makeElement("tr", "spacer", makeElement("td", ""));
    row.firstChild.colSpan = COLUMNS.length;
    row.firstChild.style.height = `${pixels}px`;
    row.setAttribute("aria-hidden", "true");
    return row;
  }

  // Draws the rows in sight and a few more; spacers stand for the others.
  function drawRows(isForced) {
    const { scroller, body } = parts;
    const openIndex = view.rows.indexOf(view.open);
    const skipped = openIndex >= 0 && scroller.scrollTop > (openIndex + 1) * ROW_PIXELS ? view.openPixels : 0;
    const top = Math.max(0, scroller.scrollTop - skipped);
    const first = Math.max(0, Math.floor(top / ROW_PIXELS) - EXTRA_ROWS);
    const last = Math.min(view.rows.length, first + Math.ceil(scroller.clientHeight / ROW_PIXELS) + 2 * EXTRA_ROWS);
    if (!isForced && parts.first === first && parts.last === last) return;
    [parts.first, parts.last] = [first, last];
    const rows = [];
    for (let index = first; index < last; index += 1) {
      rows.push(makeRow(view.rows[index], index));
      if (index === openIndex) rows.push(makeDetails(view.rows[index]));
    }
    const above = first * ROW_PIXELS + (openIndex >= 0 && openIndex < first ? view.openPixels : 0);
    const below = (view.rows.length - last) * ROW_PIXELS + (openIndex >= last ? view.openPixels : 0);
    const hadFocus = body.contains(document.activeElement) ? document.activeElement.dataset.row : null;
    body.replaceChildren(makeSpacer(above), ...rows, makeSpacer(below));
    if (hadFocus) body.querySelector(`button[data-row="${hadFocus}"]`)?.focus({ preventScroll: true });
    const details = body.querySelector("tr.details");
    if (details) view.openPixels = details.offsetHeight;
  }

  function makeRow(row, index) {
    const cells = COLUMNS.map((column) => {
      const text = column.text(row);
      const cell = makeElement("td", column.className);
      if (column.key === "name") {
        const button = makeElement("button", "name", text);
        button.type = "button";
        button.dataset.row = row;
        button.setAttribute("aria-expanded", String(row === view.open));
        cell.append(button);
      } else if (column.key === "seconds" && jobs.seconds[row] !== null) {
        const bar = makeElement("i", strings[jobs.state[row]] === "failed" ? "bar k-failed" : "bar k-work");
        bar.style.width = `${Math.max(1, (50 * jobs.seconds[row]) / (longest || 1))}px`;
        cell.append(makeElement("span", "bar-place", bar), " ", text);
      } else {
        cell.append(makeElement(column.key === "state" && text === "failed" ? "b" : "span", text === "failed" ? "bad" : "", text));
      }
      cell.title = column.key === "seconds" ? "" : cleanText(text);
      return cell;
    });
    const element = makeElement("tr", row === view.open ? "open" : "", ...cells);
    element.dataset.row = row;
    element.setAttribute("aria-rowindex", String(index + 2));
    return element;
  }

  function quoteForShell(text) {
    return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
  }

  function makeDetails(row) {
    const panel = makeElement("div", "panel");
    const facts = makeElement("dl", "");
    const addFact = (name, value) => {
      if (value) facts.append(makeElement("dt", "", name), makeElement("dd", "", value));
    };
    addFact("job", jobs.name[row]);
    for (const [key, column] of jobs.groups) {
      if (column[row] !== null) addFact(key, strings[column[row]]);
    }
    addFact("state", strings[jobs.state[row]]);
    addFact("cause", describeCause(row));
    addFact("reason", strings[jobs.reason[row]]);
    addFact("results", fillTemplate(strings[jobs.output[row]], row));
    addFact("record", fillTemplate(strings[jobs.record[row]], row));
    panel.append(facts);
    const earlier = data.earlier[row];
    if (earlier) {
      const items = earlier.map(([state, reason, started, seconds, machine, isProgram]) => makeElement("li", "",
        `${strings[state]} after ${formatSpan(seconds)}, ` +
        `${isProgram ? "its program began" : "taken by a worker"} ${formatSpan(started)} into the run, on ` +
        `${strings[machine] || "an unknown machine"}${strings[reason] ? `: ${strings[reason]}` : ""}`));
      panel.append(makeElement("p", "muted", "Earlier attempts:"), makeElement("ol", "", ...items));
    } else {
      const attempts = jobs.attempts[row];
      panel.append(makeElement("p", "muted", attempts > 1 ? "Earlier attempts: unknown" : "No earlier attempts."));
    }
    if (data.command && cleanText(jobs.name[row]) === jobs.name[row]) {
      panel.append(makeCopyBlock("To run this job on your computer:", `${data.command} ${quoteForShell(jobs.name[row])}`));
    }
    const cell = makeElement("td", "", panel);
    cell.colSpan = COLUMNS.length;
    return makeElement("tr", "details", cell);
  }

  function toggleRow(row) {
    view.open = view.open === row ? -1 : row;
    drawRows(true);
  }

  function makeHeaders() {
    return COLUMNS.map((column) => {
      const button = makeElement("button", "", column.title);
      button.type = "button";
      button.addEventListener("click", () => {
        view.isDescending = view.sort === column.key ? !view.isDescending : !IS_TEXT.has(column.key);
        view.sort = column.key;
        updateTable();
      });
      const header = makeElement("th", column.className, button);
      header.scope = "col";
      return header;
    });
  }

  function makeFilters() {
    return FILTERS.map(([name, isShown]) => {
      let number = 0;
      for (let row = 0; row < count; row += 1) number += isShown(row);
      const total = data.totals[name] ?? 0;
      const listed = number < total ? `${formatCount(number)} of ${formatCount(total)}` : formatCount(number);
      const button = makeElement("button", "filter", `${name} ${listed}`);
      button.type = "button";
      button.dataset.filter = name;
      button.addEventListener("click", () => {
        view.filter = name;
        view.cause = "";
        updateTable();
      });
      return button;
    });
  }

  function buildTable(place) {
    const search = makeElement("input", "");
    search.type = "search";
    search.placeholder = "job, machine, or reason";
    search.setAttribute("aria-label", "search the jobs");
    search.addEventListener("input", () => {
      view.query = search.value;
      updateTable();
    });
    const filters = makeElement("div", "filters", ...makeFilters());
    const status = makeElement("p", "status");
    status.setAttribute("role", "status");
    const headers = makeHeaders();
    const body = makeElement("tbody", "");
    const table = makeElement("table", "jobs", makeElement("thead", "", makeElement("tr", "", ...headers)), body);
    table.setAttribute("aria-rowcount", String(count + 1));
    const scroller = makeElement("div", "scroller", table);
    scroller.tabIndex = 0;
    scroller.addEventListener("scroll", () => drawRows(false), { passive: true });
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-row]");
      if (row && !getSelection().toString()) toggleRow(Number(row.dataset.row));
    });
    parts = { search, filters, status, headers, body, scroller, first: -1, last: -1 };
    place.append(makeElement("div", "controls", search, filters, status), scroller);
    new ResizeObserver(() => drawRows(false)).observe(scroller);
    updateTable();
  }

  const place = document.getElementById("table");
  if (place && count) buildTable(place);
  document.documentElement.classList.add("js");  // now, because it hides what the script replaces

  for (const link of document.querySelectorAll("a[data-cause]")) {
    link.addEventListener("click", () => {
      if (!parts) return;
      view.query = parts.search.value = "";
      view.filter = "all";
      view.cause = link.dataset.cause;
      updateTable();
    });
  }

  // Tooltips --------------------------------------------------------------------------------------------------------

  const tip = makeElement("div", "tip");
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);

  function showTip(event, lines) {
    if (!lines) {
      tip.hidden = true;
      return;
    }
    tip.replaceChildren(...lines.map((line) => makeElement("div", "", line)));
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const isBelow = event.clientY + 18 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${isBelow ? event.clientY + 18 : event.clientY - tip.offsetHeight - 10}px`;
  }

  function addTip(drawing, describePlace) {
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect();
      const x = Math.min(0.99999, Math.max(0, (event.clientX - box.left) / box.width));
      const y = Math.min(0.99999, Math.max(0, (event.clientY - box.top) / box.height));
      showTip(event, describePlace(x, y));
    });
    drawing.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  function describeBin(x) {
    const number = Math.floor(x * data.left.length);
    const uses = Object.entries(data.slots).filter(([, values]) => values[number]);
    return [`after ${formatSpan(x * data.span)}: ${formatCount(data.left[number])} jobs left`,
      ...uses.map(([use, values]) => `${trimNumber(values[number], 1)} slots: ${use}`)];
  }

  // A piece is four numbers: start, seconds, string of the state, and row of the job, or -1.
  function describeLane(lane, seconds) {
    const [machine, slot, launched, ended, reason, pieces] = lane;
    const name = `${strings[machine]}, slot ${slot}`;
    for (let index = 0; index < pieces.length; index += 4) {
      const [start, length, state, row] = pieces.slice(index, index + 4);
      if (seconds >= start && seconds <= start + length) {
        const isRunning = strings[state] === "running";
        const job = row >= 0 ? jobs.name[row] : isRunning ? "a job that runs" : "a job that the table does not list";
        return [job, `${strings[state]}, ${formatSpan(length)}, began after ${formatSpan(start)}`, name];
      }
    }
    const end = ended === null ? "" : `, ended after ${formatSpan(ended)}${strings[reason] ? `: ${strings[reason]}` : ""}`;
    return [name, "no program", `launched after ${formatSpan(launched)}${end}`];
  }

  function findLane(line, seconds) {
    return line.find(([, , launched, ended]) => seconds >= launched && (ended === null || seconds <= ended));
  }

  const slots = document.querySelector("svg.slots");
  if (slots && data.slots) addTip(slots, describeBin);

  let firstLine = 0;
  for (const drawing of document.querySelectorAll("svg.lanes")) {
    const tops = drawing.dataset.tops.split(",").map(Number);
    const lines = data.lines.slice(firstLine, firstLine + tops.length);
    firstLine += tops.length;
    addTip(drawing, (x, y) => {
      const pixels = y * drawing.viewBox.baseVal.height;
      const index = tops.findLastIndex((top) => pixels >= top);
      const lane = findLane(lines[index] ?? [], x * data.span);
      return lane && pixels < tops[index] + Number(drawing.dataset.pixels) ? describeLane(lane, x * data.span) : null;
    });
  }
})();
