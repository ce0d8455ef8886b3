// Keeps a page of the board live: each element that the stream sends takes the place of the one with its id, and
// times are told from now. Without it the pages are complete too, and a reload brings the news.
"use strict";
{
  const QUIET = 45_000; // ms without a word, not even a "beat", after which the connection counts as dead
  const ROWS = 200; // how many of the history a page holds at most
  const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const byId = (id) => document.getElementById(id);
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const status = byId("live");
  const skew = Date.parse(document.body.dataset.now) - Date.now(); // the server's clock counts
  const shown = new Map(); // id → the server's markup of what the page shows
  const later = new Map(); // id → an element whose place is in use
  let source, heard;

  const words = (seconds, parts) => {
    const first = seconds < 1 ? 3 : UNITS.findIndex(([size]) => seconds >= size);
    return UNITS.slice(first, first + parts).map(([size, unit], i) =>
      `${Math.floor((i ? seconds % UNITS[first][0] : seconds) / size)} ${unit}`).join(" ");
  };
  const relative = ({ dateTime, dataset }) => {
    const seconds = Math.round((Date.now() + skew - Date.parse(dateTime)) / 1000);
    if (dataset.rel === "elapsed") return words(Math.max(seconds, 0), 2);
    return seconds < 0 ? `in ${words(-seconds, 2)}` : seconds < 5 ? "just now" : `${words(seconds, 1)} ago`;
  };
  const remember = (root) => {
    for (const el of [root, ...root.querySelectorAll("[data-live]")]) shown.set(el.id, el.outerHTML);
  };
  // What a person has open, focused or selected stays as it is until they are done with it.
  const inUse = (el) => el.contains(document.activeElement) || el.querySelector("details[open]") ||
    (getSelection().type === "Range" && getSelection().containsNode(el, true));

  const put = (el) => {
    const [old, html] = [byId(el.id), el.outerHTML];
    const known = later.get(el.id) ?? old;
    later.delete(el.id);
    if (!old || shown.get(el.id) === html || (el.dataset.state && el.dataset.state === old.dataset.state)) return;
    if (el.dataset.say && el.dataset.say !== known.dataset.say) set(byId("say"), el.dataset.say);
    if (el.dataset.title) document.title = el.dataset.title;
    if (inUse(old)) return void later.set(el.id, el);
    shown.set(el.id, html);
    old.replaceWith(el);
  };
  const insert = (el) => {
    const into = byId(el.dataset.into);
    const rows = [...into?.children ?? []].filter((row) => row.dataset.at);
    const next = rows.find((row) => row.dataset.at <= el.dataset.at);
    if (!into || (rows.length && !next)) return; // another page of the history has it
    into.querySelector(":scope > .nothing")?.remove();
    remember(el);
    el.classList.add("new");
    into.insertBefore(el, next ?? null);
    if (rows.length >= ROWS) rows.at(-1).remove();
  };
  const tick = () => {
    for (const time of document.querySelectorAll("time[data-rel]")) {
      if (!time.firstElementChild) time.prepend(Object.assign(document.createElement("span"), { className: "rel" }), " ");
      set(time.firstElementChild, relative(time));
    }
    [...later.values()].forEach(put);
    if (source && Date.now() - heard > QUIET) open();
  };
  const open = () => {
    const is = (word, text) => { status.dataset.is = word; set(status, text); };
    source?.close();
    source = new EventSource(status.dataset.url);
    heard = Date.now();
    source.onopen = () => is("on", "Live");
    source.addEventListener("beat", () => { heard = Date.now(); });
    source.onmessage = ({ data }) => {
      heard = Date.now();
      const box = Object.assign(document.createElement("template"), { innerHTML: data }).content;
      for (const el of box.querySelectorAll("[data-into]")) if (!byId(el.id)) insert(el);
      box.querySelectorAll("[data-live]").forEach(put);
      tick();
    };
    source.onerror = () => {
      is("off", "Reconnecting; this may be old");
      if (source.readyState === EventSource.CLOSED) heard = Date.now() - QUIET + 5000; // refused: again in 5 s
    };
  };

  remember(document.body);
  tick();
  setInterval(tick, 1000);
  // In the background no connection is held: over HTTP/1.1 a browser has six for a server.
  document.addEventListener("visibilitychange", () => { if (document.hidden) source = source?.close(); else open(); });
  if (!document.hidden) open();
}
