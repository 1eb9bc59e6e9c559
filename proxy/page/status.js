
"use strict";
// Everything that comes from the server becomes text nodes and attributes, never mark-up.
(() => {
  const ERRORS_AT_MOST = 100;
  const MISSPELLINGS_AT_MOST = 200;
  const LONG_MESSAGE = 420;
  const RETRY_MS = 5000;
  const SPOKEN_EVERY_MS = 5000;

  const at = (id) => document.getElementById(id);
  const make = (name, attributes, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const times = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

  const counts = new Map();
  const misspellings = new Map();
  const errors = new Map(); // by number, the oldest first: {error, element, time, words}
  let lastId = "";
  let source = null;
  let retry = 0;
  let clockAheadS = 0;

  // What is shown.

  const age = (s) => {
    if (s < 5) return "just now";
    if (s < 60) return `${Math.floor(s)} s ago`;
    if (s < 3600) return `${Math.floor(s / 60)} min ago`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
    return `${Math.floor(s / 86400)} d ago`;
  };
  const showAges = () => {
    const nowS = Date.now() / 1000 + clockAheadS;
    for (const { error, time } of errors.values()) {
      const text = age(nowS - error.at);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  const badge = (status) => make("span", { class: "badge", "data-class": String(status ?? "5")[0] }, String(status ?? "–"));
  // A long name may break before each of its words.
  const name = (text) => text.split(/(?=[A-Z][a-z])/).flatMap((word, i) => (i ? [document.createElement("wbr"), word] : [word]));
  const page = (address, text) =>
    /^https?:\/\//.test(address ?? "")
      ? make("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text)
      : null;

  let speech = 0;
  const say = (text) => {
    clearTimeout(speech);
    at("spoken").textContent = text;
    speech = setTimeout(() => { at("spoken").textContent = ""; }, SPOKEN_EVERY_MS);
  };

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  // Only a secure context (localhost is one) has a clipboard; elsewhere the text is selected, for Ctrl+C.
  const copy = async (button, element, what) => {
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(element.textContent);
    } catch {
      select(element);
      done = document.execCommand("copy") ? "Copied" : "Selected";
    }
    button.textContent = done;
    say(`${what} ${done.toLowerCase()}`);
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  const copyButton = (element, what) => {
    const button = make("button", { type: "button", "aria-label": `Copy ${what}` }, "Copy");
    button.addEventListener("click", () => copy(button, element, what));
    return button;
  };

  const idRows = (title, value, source) => {
    if (!value) return [];
    const code = make("code", {}, value);
    const from = source ? make("span", { class: "source" }, `from: ${source}`) : null;
    return [make("dt", {}, title), make("dd", {}, code, copyButton(code, title.toLowerCase().replace("id", "ID")), from)];
  };
  const listed = (title, items) =>
    items.length ? [make("p", {}, make("b", {}, title)), make("ul", {}, ...items.map((item) => make("li", {}, item)))] : [];
  const helpOf = (error) => {
    const lines = [
      error.cause && make("p", {}, make("b", {}, "Cause: "), error.cause),
      error.remedy && make("p", {}, make("b", {}, "Remedy: "), error.remedy),
      ...listed("Fixes", error.fixes),
      ...listed("Suspicious in the body that was sent", error.suspects),
    ].filter(Boolean);
    const links = [page(error.page, "About this error"), page(error.operation_page, "About this operation")].filter(Boolean);
    if (links.length) lines.push(make("p", {}, ...links.flatMap((link, i) => (i ? [" · ", link] : [link]))));
    return lines.length ? make("details", { class: "help" }, make("summary", {}, "What helps"), ...lines) : null;
  };
  // A long message begins with a few lines of it, and goes on for whom it matters to.
  const messageOf = (error) => {
    if (!error.message) return [];
    const message = make("p", { class: "message", dir: "auto" }, error.message);
    if (error.message.length <= LONG_MESSAGE) return [message];
    message.classList.add("short");
    const button = make("button", { class: "link", type: "button", "aria-expanded": "false" }, "Whole message");
    button.addEventListener("click", () => {
      const isShort = message.classList.toggle("short");
      button.setAttribute("aria-expanded", String(!isShort));
    });
    return [message, button];
  };
  const errorElement = (error, isNew) => {
    const time = make("time", { datetime: new Date(error.at * 1000).toISOString(), title: new Date(error.at * 1000).toLocaleString() });
    const request = `${error.method} ${error.route}`.trim();
    const facts = [
      error.origin === "proxy" ? "from the proxy" : "from the upstream",
      error.failure,
      error.retry_after_s === null ? null : `asks to wait ${error.retry_after_s} s`,
    ].filter(Boolean);
    const element = make(
      "li", { class: isNew ? "error new" : "error" },
      make("h3", {}, badge(error.status), make("span", {}, ...name(error.code)), time),
      make("p", { class: "where" }, `${error.operation} · `, ...(request ? [make("code", {}, request), " · "] : []), facts.join(" · ")),
      ...messageOf(error),
      make("dl", { class: "ids" }, ...idRows("Target ID", error.target_id, error.target_source), ...idRows("Request ID", error.request_id)),
      helpOf(error),
    );
    const words = [error.message, error.code, error.operation, request, error.target_id, error.request_id, error.failure, ...error.fixes, ...error.suspects];
    return { error, element, time, words: words.filter(Boolean).join("\n").toLowerCase() };
  };

  // Filters.

  const filters = { code: at("code"), operation: at("operation"), origin: at("origin"), text: at("text") };
  const filter = () => {
    const wanted = Object.fromEntries(Object.entries(filters).map(([key, field]) => [key, field.value]));
    const text = wanted.text.trim().toLowerCase();
    let shown = 0;
    for (const { error, element, words } of errors.values()) {
      const isShown =
        (!wanted.code || error.label === wanted.code) &&
        (!wanted.operation || error.operation === wanted.operation) &&
        (!wanted.origin || error.origin === wanted.origin) &&
        (!text || words.includes(text));
      element.hidden = !isShown;
      shown += isShown;
    }
    const isFiltered = Boolean(wanted.code || wanted.operation || wanted.origin || text);
    at("clear").hidden = !isFiltered;
    const told = isFiltered ? `${shown} of ${times(errors.size, "error", "errors")}` : "";
    if (at("shown").textContent !== told) at("shown").textContent = told;
    at("shown").hidden = !isFiltered;
  };
  const offer = (field, key) => {
    const known = new Set([...field.options].map((option) => option.value));
    const present = new Set([...errors.values()].map(({ error }) => error[key]));
    if (field.value) present.add(field.value);
    for (const option of [...field.options]) {
      if (option.value && !present.has(option.value)) option.remove();
    }
    for (const value of [...present].sort()) {
      if (known.has(value)) continue;
      const option = make("option", { value }, value);
      field.add(option, [...field.options].find((other) => other.value > value) ?? null);
    }
  };

  // Overview.

  const showCounts = () => {
    const focused = document.activeElement?.dataset?.count;
    const sorted = [...counts.values()].sort((a, b) => b.count - a.count || a.code.localeCompare(b.code));
    at("count-rows").replaceChildren(
      ...sorted.map((count) => {
        const key = `${count.code} ${count.status} ${count.origin}`;
        const button = make("button", { class: "link", type: "button", "data-count": key, "aria-label": `Show the errors with ${count.code}` }, ...name(count.code));
        button.addEventListener("click", () => {
          filters.code.value = count.code;
          filters.origin.value = count.origin;
          filter();
          at("errors").scrollIntoView({ block: "nearest" });
        });
        return make("tr", {}, make("td", {}, button), make("td", {}, badge(count.status)), make("td", { class: "quiet" }, count.origin), make("td", { class: "number" }, count.count.toLocaleString("en")));
      }),
    );
    if (focused) at("count-rows").querySelector(`[data-count="${CSS.escape(focused)}"]`)?.focus();
    at("counts").hidden = counts.size === 0;
  };
  const noteOf = (item) => {
    const actions = Object.entries(item.actions);
    const told = actions.map(([action, count]) => (actions.length > 1 ? `${action} ${count.toLocaleString("en")}` : action)).join(" · ");
    const note = make("p", { class: "note" }, item.is_conflict ? `${item.fix} · ${told}` : told);
    if (item.actions.observed && item.accepted) {
      note.append(" · ", make("span", { class: "doubt" }, `taken by the upstream ${times(item.accepted, "time", "times")}: the catalog may be stricter than the service`));
    }
    return note;
  };
  const showMisspellings = () => {
    const operations = Map.groupBy ? Map.groupBy(misspellings.values(), (item) => item.operation) : new Map();
    if (!Map.groupBy) {
      for (const item of misspellings.values()) operations.set(item.operation, [...(operations.get(item.operation) ?? []), item]);
    }
    const total = (items) => items.reduce((sum, item) => sum + item.count, 0);
    const sorted = [...operations].sort(([a, x], [b, y]) => total(y) - total(x) || a.localeCompare(b));
    at("operations").replaceChildren(
      ...sorted.map(([operation, items]) =>
        make(
          "div", { class: "operation" },
          make("h3", {}, make("span", {}, page(items[0].page, operation) ?? operation), make("code", {}, `${items[0].method} ${items[0].route}`)),
          make("ul", {}, ...items.sort((a, b) => b.count - a.count || a.got.localeCompare(b.got)).map((item) =>
            make(
              "li", {},
              make("span", { class: "swap" }, make("del", {}, make("code", {}, item.got)), "→", make("ins", {}, make("code", {}, item.expected)), item.is_value ? make("span", { class: "quiet" }, "value") : null),
              make("span", { class: "count" }, make("b", {}, item.count.toLocaleString("en")), item.count === 1 ? " request" : " requests"),
              noteOf(item),
            ))),
        )),
    );
    at("misspellings").hidden = misspellings.size === 0;
  };

  // What comes from the server.

  const keep = (map, key, value, atMost) => {
    map.delete(key);
    map.set(key, value);
    while (map.size > atMost) map.delete(map.keys().next().value);
  };
  const take = (state, isFirst) => {
    if (state.reset) {
      counts.clear();
      misspellings.clear();
      errors.clear();
      at("list").replaceChildren();
    }
    lastId = state.id;
    clockAheadS = state.now - Date.now() / 1000;
    at("phase").textContent = state.phase;
    at("phase").dataset.phase = state.phase;
    for (const count of state.counts) counts.set(`${count.code} ${count.status} ${count.origin}`, count);
    for (const item of state.misspellings) {
      keep(misspellings, JSON.stringify([item.operation, item.got, item.expected, item.is_value, item.is_conflict]), item, MISSPELLINGS_AT_MOST);
    }
    for (const error of state.errors) {
      const row = errorElement(error, !isFirst);
      errors.set(error.seq, row);
      at("list").prepend(row.element);
    }
    while (errors.size > ERRORS_AT_MOST) {
      const [seq, { element }] = errors.entries().next().value;
      element.remove();
      errors.delete(seq);
    }
    if (state.counts.length || state.reset) showCounts();
    if (state.misspellings.length || state.reset) showMisspellings();
    if (state.errors.length || state.reset) {
      offer(filters.code, "label");
      offer(filters.operation, "operation");
      filter();
    }
    at("errors").hidden = errors.size === 0;
    at("empty").hidden = state.seq !== 0;
    showAges();
    const total = [...counts.values()].reduce((sum, count) => sum + count.count, 0);
    document.title = total ? `${times(total, "error", "errors")} · defender-sidecar` : "defender-sidecar";
    if (!isFirst && state.errors.length) say(`${times(state.errors.length, "new error", "new errors")}: ${state.errors.at(-1).code}`);
  };

  const live = (is, text) => {
    if (at("live").textContent !== text) at("live").textContent = text;
    at("live").dataset.live = is;
  };
  const connect = () => {
    clearTimeout(retry);
    source = new EventSource(`events?after=${encodeURIComponent(lastId)}`);
    source.onopen = () => live("yes", "live");
    source.onmessage = (event) => take(JSON.parse(event.data), false);
    source.onerror = () => {
      // A browser gives up for good where the answer is no stream: too many are open, or the proxy is ending.
      live("no", "not connected, trying again");
      source.close();
      retry = setTimeout(connect, RETRY_MS);
    };
  };
  const pause = () => {
    const isPaused = at("pause").textContent === "Pause";
    at("pause").textContent = isPaused ? "Resume" : "Pause";
    if (!isPaused) {
      connect();
      return;
    }
    clearTimeout(retry);
    source.close();
    live("paused", "paused");
  };

  for (const field of Object.values(filters)) field.addEventListener("input", filter);
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("reset", () => setTimeout(filter));
  at("pause").addEventListener("click", pause);
  for (const command of document.querySelectorAll(".command")) {
    command.append(copyButton(command.querySelector("code"), "command"));
  }
  at("pause").hidden = false;
  take({ ...JSON.parse(at("state").textContent), reset: true }, true);
  connect();
  setInterval(showAges, 1000);
})();
