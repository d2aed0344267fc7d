/** The first page that a browser gets: it keeps the secret that questions are asked with, and goes on to what was meant. */

/** Where the browser keeps the secret: storage, unlike a cookie, is for the pages of one port alone. */
export const SECRET = "logprobs-explore-secret";

const secret = document.querySelector('meta[name="secret"]')?.getAttribute("content");
if (secret) {
  localStorage.setItem(SECRET, secret);
  location.replace(document.querySelector('meta[name="goes-to"]')?.getAttribute("content") ?? "/");
}
