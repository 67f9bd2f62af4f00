// Asks for each of these over and over, and shows what the edge says of the answer.
const rows = [
  ["/data/fresh", "fresh for 5 s"],
  ["/data/stale", "fresh for 2 s, then stale while it is asked again"],
  ["/data/slow", "fresh for 8 s, takes 1.5 s to make"],
  ["/data/edge", "fresh for 1 s in browsers, for 20 s at the edge"],
  ["/data/private", "for one visitor alone"],
  ["/data/none", "not there: kept as that for 10 s"],
  ["/me", "never kept"],
];

async function ask(path) {
  const began = performance.now();
  // The browser's own cache would hide what the edge does. It says `Cache-Control: no-cache`, which the edge passes over here.
  const answer = await fetch(path, { cache: "no-store" });
  const body = await answer.text();
  const took = performance.now() - began;
  let asked = "";
  try {
    asked = JSON.parse(body).asked;
  } catch {
    asked = answer.status;
  }
  return [answer.headers.get("cache-status") ?? "", answer.headers.get("age") ?? "", asked, `${took.toFixed(0)} ms`];
}

for (const [path, what] of rows) {
  const row = document.getElementById("rows").insertRow();
  row.id = path;
  row.insertCell().textContent = path;
  row.insertCell().textContent = what;
  const cells = [0, 1, 2, 3].map(() => row.insertCell());
  const again = async () => {
    try {
      (await ask(path)).forEach((text, index) => { cells[index].textContent = text; });
    } catch (error) {
      cells[0].textContent = error.message;
    }
    setTimeout(again, 1000);
  };
  again();
}
