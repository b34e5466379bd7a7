// The history that is tried, and what is left out; whoever wants to know of changes is told.

export const state = { history: [], categories: [], tokens: [], listeners: [] };

export function changed(act) { state.listeners.push(act); }
function tell(sentence) { for (const act of state.listeners) act(sentence); }

export function add(item) {
  state.history.push(item);
  tell("added to the history");
}
export function removeAt(place) {
  state.history.splice(place, 1);
  tell("taken out of the history");
}
export function clear() {
  state.history = [];
  tell("The history is empty");
}
export function leaveOut(category) {
  if (category && !state.categories.includes(category)) state.categories.push(category);
  tell(`${category} is left out`);
}
export function leaveOutToken(token) {
  if (!state.tokens.some((each) => each.codebook === token.codebook && each.token === token.token)) state.tokens.push(token);
  tell("Items of that kind are left out");
}
export function welcome(kind, place) {
  state[kind].splice(place, 1);
  tell("It may be shown again");
}

// What is asked of a model, as the service takes it.
export function question(about, k) {
  const body = { history: state.history.map((each) => each.item), model: about.name, k };
  if (about.reads_times) body.times = moments(state.history.length);
  if (state.categories.length && about.has_categories) body.never_category = state.categories;
  if (state.tokens.length && about.has_tokens) body.forbid_tokens = state.tokens.map((t) => [t.codebook, t.token]);
  return body;
}

// A history that is clicked together has no times: one item an hour until now.
function moments(count) {
  const now = Math.floor(Date.now() / 1000);
  return Array.from({ length: count }, (_, place) => now - 3600 * (count - place));
}
