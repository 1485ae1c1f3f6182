"""axe-core: its source, and how it is run in a page."""

from __future__ import annotations

from importlib.resources import files

SOURCE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

# Without its own requests: the demo's pages allow none to other hosts.
RUN = """(rules) => axe.run(document, {
  resultTypes: ["violations"],
  rules: { "target-size": { enabled: true } },
  ...(rules && { runOnly: { type: "rule", values: rules } }),
}).then(({ violations }) => violations.map(({ id, nodes }) => (
  `${id}: ${nodes.map(({ html }) => html.slice(0, 90)).slice(0, 3).join(" | ")}`
)))"""
