// Before the client: a visitor without the cookie `variant` gets it, so that the front page stays the same, and every page says
// which one it is.

/** The first value of a header field: each is a line `name: value`, the name in lower case. */
function field(headers, name) {
  const start = `${name}: `;
  return headers.split("\r\n").find((line) => line.startsWith(start))?.slice(start.length);
}

/** The export `wharf:edge/viewer-response`. */
export const viewerResponse = {
  handle(request, response) {
    // The request as the hook before it changed it: `/a/` or `/b/`.
    const chosen = /^\/([ab])\/$/.exec(request.path);
    if (!chosen || response.status !== 200) {
      return { tag: "next" };
    }
    const [, variant] = chosen;
    const headers = [{ tag: "append", val: ["x-variant", variant] }];
    const cookies = field(request.headers, "cookie") ?? "";
    if (!cookies.split(/;\s*/).includes(`variant=${variant}`)) {
      // Set here, after the cache: it is not stored with the page.
      const cookie = `variant=${variant}; Path=/; Max-Age=2592000; SameSite=Lax`;
      headers.push({ tag: "append", val: ["set-cookie", cookie] });
    }
    // The other fields stay, and without a body the one there is.
    return { tag: "replace", val: { status: response.status, headers, body: undefined } };
  },
};
