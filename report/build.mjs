// Bundles the page's script and style into the Python package, with the licences of what is inside.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const out = new URL("../recommender/report/assets/", import.meta.url).pathname;
const bundled = ["cytoscape", "cytoscape-fcose", "cose-base", "layout-base", "fflate"];

await build({
  entryPoints: { page: "src/page.js" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2020",
  charset: "ascii", // whatever the page's encoding is taken for, the script stays what it is
  legalComments: "none", // the licences stand in the page, whole
});
await build({ entryPoints: { page: "src/page.css" }, outdir: out, minify: true });

const licences = bundled.map((name) => {
  const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
  const text = readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim();
  return `${name} ${version} (${license})\n\n${text}\n`;
});
writeFileSync(`${out}licences.txt`, licences.join("\n\n"));

// What the bundle was made from: a test that has no node tells by it when the bundle is stale.
const sources = [...readdirSync("src").map((name) => `src/${name}`), "build.mjs", "package-lock.json"].sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(readFileSync(name));
writeFileSync(`${out}made-from.txt`, `${hash.digest("hex")}\n`);
