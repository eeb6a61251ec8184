// The hits as a table for a spreadsheet.

const COLUMNS = [
  ["rank", (hit) => hit.rank],
  ["score", (hit) => hit.score],
  ["score_kind", (hit) => hit.score_kind],
  ["percentile", (hit) => hit.percentile],
  ["cosine_image", (hit) => hit.scores.image],
  ["cosine_report", (hit) => hit.scores.report],
  ["study_instance_uid", (hit) => hit.study.study_instance_uid],
  ["accession_number", (hit) => hit.study.accession_number],
  ["study_date", (hit) => hit.study.study_date],
  ["modality", (hit) => hit.study.modality],
  ["views", (hit) => hit.study.views.join(" ")],
  ["sex", (hit) => hit.study.sex],
  ["age", (hit) => hit.study.age],
  ["institution", (hit) => hit.study.institution],
  ["present", (hit) => asserted(hit, "present")],
  ["uncertain", (hit) => asserted(hit, "uncertain")],
  ["absent", (hit) => asserted(hit, "absent")],
  ["similar_reports", (hit) => hit.similar_reports.count],
  ["report", (hit) => hit.report?.text],
];

/** CSV (RFC 4180) of hits, with the encoders and the generation in every row: a table travels without its page. */
export function csvOf(hits, reply) {
  const rows = hits.map((hit) => [...COLUMNS.map(([, value]) => value(hit)), reply.model_fingerprint, reply.generation]);
  const head = [...COLUMNS.map(([name]) => name), "model_fingerprint", "generation"];
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function asserted(hit, assertion) {
  return hit.labels
    .filter((label) => label.assertion === assertion)
    .map(({ finding, laterality }) => (laterality ? `${finding} (${laterality})` : finding))
    .join("; ");
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  // A spreadsheet would run it as a formula; where semicolons part cells, behind each of them too.
  const text = value.replace(/(^|;)(\s*[=+\-@＝＋－＠])/g, "$1'$2");
  return `"${text.replaceAll('"', '""')}"`;
}

export function download(text, name, type) {
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
