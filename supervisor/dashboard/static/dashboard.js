// Keeps an open page as it would be if it were loaded again. The server makes all of it, and escapes it; what comes here is
// compared with what there is, element by element, so that nobody loses the place, the focus or a selection.
"use strict";

const LONGEST_PAUSE = 15000; // ms between two tries while the service does not answer
const PATIENCE = 10000; // ms for an answer

const body = document.body;
const notice = document.getElementById("notice");
const seen = document.getElementById("seen");
const pause = document.getElementById("pause");

let paused = false;
let timer = 0;
let failures = 0;
let lastSeen = new Date();
let asking = null; // what aborts the request that is under way

function say(text, good = false) {
  if (notice.textContent !== text) notice.textContent = text;
  notice.classList.toggle("good", good);
}

function clock(date) {
  return date.toLocaleTimeString();
}

async function fetched(url) {
  const abort = new AbortController();
  if (asking) asking.abort();
  asking = abort;
  const late = setTimeout(() => abort.abort(), PATIENCE);
  try {
    const response = await fetch(url, { signal: abort.signal, cache: "no-store", redirect: "error", credentials: "same-origin" });
    const text = await response.text();
    return { status: response.status, page: response.ok ? new DOMParser().parseFromString(text, "text/html") : null };
  } finally {
    clearTimeout(late);
    if (asking === abort) asking = null;
  }
}

function liveUrl() {
  const url = new URL(location.href);
  url.hash = "";
  url.searchParams.delete("done");
  url.searchParams.set("live", "1");
  return url;
}

// ---------------------------------------------------------------------------------------- making one as the other

function same(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);
}

function keyOf(node) {
  return node.nodeType === 1 ? node.getAttribute("data-key") : null;
}

function sync(old, fresh) {
  if (old.nodeType !== 1) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  syncChildren(old, fresh);
}

function syncChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = keyOf(wanted);
    let found = key === null ? place : keyed.get(key);
    if (found && same(found, wanted)) {
      if (found === place) place = place.nextSibling;
      else old.insertBefore(found, place);
      sync(found, wanted);
    } else {
      old.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

// ---------------------------------------------------------------------------------------- asking again and again

function every() {
  const wanted = Number(document.getElementById("status").dataset.every) || 2000;
  return Math.min(LONGEST_PAUSE, wanted * 1.6 ** failures);
}

function schedule(soon = false) {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(update, soon ? 0 : every());
}

async function update() {
  const url = liveUrl();
  try {
    const { status, page } = await fetched(url);
    if (url.href !== liveUrl().href) return schedule(true); // the filter has changed meanwhile
    if (page && page.getElementById("status")) show(page);
    else if (status === 404) say("It is no longer there.");
    else if (status === 401 || status === 403) say("You may no longer see this: reload the page.");
    else lost();
  } catch (error) {
    if (url.href !== liveUrl().href) return schedule(true);
    lost();
  }
  schedule();
}

function show(page) {
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const old = document.getElementById(fresh.id);
    if (old) sync(old, fresh);
  }
  if (failures) say("");
  failures = 0;
  lastSeen = new Date();
  seen.textContent = `as of ${clock(lastSeen)}`;
  body.classList.remove("lost");
}

function lost() {
  failures += 1;
  if (failures < 2) return; // one request may fail
  say(`Connection lost. Last seen ${clock(lastSeen)}.`);
  seen.textContent = `last seen ${clock(lastSeen)}`;
  body.classList.add("lost");
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  schedule(true);
});

document.addEventListener("visibilitychange", () => schedule(true));
window.addEventListener("pageshow", (event) => event.persisted && schedule(true));

// ---------------------------------------------------------------------------------------- the filter

const filter = document.querySelector("form.filter");
if (filter) {
  let typing = 0;
  const apply = () => {
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(filter)) {
      if (value && !(name === "sort" && value === "age")) asked.set(name, value);
    }
    history.replaceState(null, "", asked.size ? `./?${asked}` : "./");
    clearTimeout(timer);
    update();
  };
  filter.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(apply, 250);
  });
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    apply();
  });
}

// ---------------------------------------------------------------------------------------- the stack of a worker

const refresh = document.getElementById("refresh");
if (refresh) {
  const stackSeen = document.getElementById("stack-seen");
  const copy = document.getElementById("copy");
  refresh.addEventListener("click", async (event) => {
    event.preventDefault();
    try {
      const { page } = await fetched(refresh.href.split("#")[0]);
      const fresh = page && page.getElementById("stack");
      if (fresh) syncChildren(document.getElementById("stack"), fresh);
      stackSeen.textContent = fresh ? `as of ${clock(new Date())}` : "It is no longer there.";
    } catch (error) {
      stackSeen.textContent = "The service does not answer.";
    }
    schedule();
  });
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const stack = document.querySelector("#stack pre");
      await navigator.clipboard.writeText(stack ? stack.textContent : "");
      stackSeen.textContent = "Copied.";
    });
  }
}

if (document.querySelector("[data-live]:not(#status)")) {
  pause.hidden = false;
  seen.textContent = `as of ${clock(lastSeen)}`;
  schedule();
}
