// check.mjs URL EMPTY-URL DIRECTORY: opens every kind of page at phone and desk width, light and dark, takes its picture,
// and checks that it loads without troubles, fits, is accessible, and can be searched with and without scripts.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Browser } from "./browser.mjs";

const [url, emptyUrl, directory] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const failures = [];
let checks = 0;

function check(holds, sentence) {
  checks += 1;
  if (!holds) failures.push(sentence);
}

async function fits(page, name, expected = 200) {
  const { troubles, statuses } = page;
  [page.troubles, page.statuses] = [[], []];
  const [documents, others] = [true, false].map((is) => statuses.filter(([type]) => (type === "Document") === is));
  check(documents.length === 1 && documents[0][1] === expected, `${name}: ${JSON.stringify(documents)}`);
  check(others.every(([, status]) => status === 200), `${name}: ${JSON.stringify(others)}`);
  const own = troubles.filter((trouble) => !(expected === 404 && trouble.includes("404")));
  check(own.length === 0, `${name}: ${own.join("; ")}`);
  const [wide, width] = await page.value("[document.documentElement.scrollWidth, window.innerWidth]");
  check(wide <= width, `${name}: ${wide} pixels wide, where ${width} are`);
  check(await page.value("document.querySelectorAll('script, style, iframe, [style]').length") === 0, `${name}: has scripts or frames`);
  await page.value(`${axe}; undefined`);
  const violations = await page.value(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
    violations.map(({ id, impact, nodes }) => id + " (" + impact + "): " + nodes.slice(0, 3).map((node) => node.html + " " + node.any.map((any) => any.message).join(" ")).join(" | ")))`);
  check(violations.length === 0, `${name}: ${violations.join("; ")}`);
}

const count = (page) => page.value("document.querySelector('#found').textContent");
const rows = (page) => page.value("document.querySelectorAll('.image').length");

async function search(page, name) {
  await page.go(url);
  await page.click("#q");
  await page.type("jammy arm64");
  await page.loaded(() => page.key("Enter", 13));
  check((await count(page)).startsWith("1 of ") && (await rows(page)) === 1, `${name}: typed words find ${await count(page)}`);
  check(await page.value("document.querySelector('#q').value") === "jammy arm64", `${name}: the form forgets its words`);
  await page.go(url);
  await page.click("#type");
  // A select without its list: the letters choose.
  await page.key("Escape", 27);
  await page.value("document.querySelector('#type').value = 'virtual-machine'; undefined");
  await page.loaded(() => page.click("button"));
  check(new URL(await page.value("location.href")).searchParams.get("type") === "virtual-machine", `${name}: the choice is not sent`);
  check((await count(page)).startsWith("1 of "), `${name}: a choice finds ${await count(page)}`);
  await page.loaded(() => page.click(".count a"));
  await page.loaded(() => page.click("a[rel=next]"));
  check(await page.value("location.search") === "?page=2", `${name}: the next page is ${await page.value("location.search")}`);
  check(await page.value("document.querySelector('.use').open") === false, `${name}: details are open`);
  await page.click(".use summary");
  check(await page.value("document.querySelector('.use').open") === true, `${name}: details don't open`);
  page.troubles = [];
  page.statuses = [];
}

async function keyboard(page) {
  await page.go(url);
  await page.key("Tab", 9);
  const focused = await page.value(`(() => {
    const { x, y, width } = document.activeElement.getBoundingClientRect();
    return [document.activeElement.className, x >= 0 && y >= 0 && width > 1];
  })()`);
  // It may still be on its way in.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const seen = await page.value("document.activeElement.getBoundingClientRect().y >= 0");
  check(focused[0] === "skip" && seen, `the first stop of the keyboard is ${JSON.stringify(focused)}`);
  await page.key("Enter", 13);
  check(await page.value("document.activeElement.id") === "content", "the link past the head does not lead there");
  const outline = await page.value("(() => { document.querySelector('#q').focus(); return getComputedStyle(document.querySelector('#q')).outlineStyle; })()");
  check(outline === "solid", "focus is not seen");
  page.troubles = [];
  page.statuses = [];
}

mkdirSync(directory, { recursive: true });
const browser = await Browser.start(process.env.CHROMIUM ?? "chromium");
try {
  const page = await browser.page();
  const first = async (query) => {
    await page.go(`${url}/?${query}`);
    const href = await page.value("document.querySelector('.image h3 a')?.href");
    check(href, `nothing is found by ${query}`);
    return href ?? url;
  };
  const hostile = await first("q=%3Cimg");
  const machine = await first("type=virtual-machine");
  const places = [
    ["index", url],
    ["found", `${url}/?q=debian&sort=name&os=Debian`],
    ["hostile-list", `${url}/?q=%3Cscript`],
    ["nothing", `${url}/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&architecture=s390x`],
    ["image", `${url}/debian/12`],
    ["machine", machine],
    ["hostile", hostile],
    ["absent", `${url}/no/such/image`, 404],
    ["empty", emptyUrl],
  ];
  page.troubles = [];
  page.statuses = [];
  for (const [width, device] of [[360, "phone"], [1280, "desk"]]) {
    for (const scheme of ["light", "dark"]) {
      await page.look(width, scheme);
      for (const [name, address, expected] of places) {
        // Pages of aliases redirect; what counts is where that leads.
        await page.go(address);
        await fits(page, `${name} ${device} ${scheme}`, expected);
        writeFileSync(join(directory, `${name}-${device}-${scheme}.png`), await page.picture());
      }
      await page.go(url);
      await page.value("document.querySelectorAll('details').forEach((details) => (details.open = true)); undefined");
      await fits(page, `open ${device} ${scheme}`);
    }
  }
  await search(page, "with scripts");
  await keyboard(page);
  await page.send("Emulation.setScriptExecutionDisabled", { value: true });
  await search(page, "without scripts");
  await page.close();
} finally {
  await browser.stop();
}
if (failures.length > 0) {
  console.error(failures.map((failure) => `- ${failure}`).join("\n"));
  console.error(`${failures.length} of ${checks} checks of the page failed`);
  process.exit(1);
}
console.log(`${checks} checks of the page hold; pictures are in ${directory}`);
