// Shorthands for the document, and for lists that are sorted by time.

export const $ = (id) => document.getElementById(id);

export function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Give a list exactly `count` children. They are made once and then only changed, so that a camera can call this twenty times a second.
export function resize(list, count, create) {
  while (list.children.length > count) list.lastChild.remove();
  while (list.children.length < count) list.append(create());
  return [...list.children];
}

// The last entry at or before a time, undefined if all are later.
export function lastAt(entries, time) {
  let low = 0, high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((entries[middle].time ?? 0) <= time + 1e-3) low = middle + 1;
    else high = middle;
  }
  return entries[low - 1];
}
