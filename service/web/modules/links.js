// Links into the hospital's viewer.

import { element } from "./elements.js";

/** A link by the template of `ALTA_VIEWER_URL`, or null: no template, or the study lacks what it names. */
export function viewerLink(template, study) {
  if (!template) return null;
  let complete = true;
  const href = template.replace(/\{(study_instance_uid|accession_number)\}/g, (_, name) => {
    if (!study[name]) complete = false;
    return encodeURIComponent(study[name] ?? "");
  });
  if (!complete) return null;
  return element("a", "Open in viewer", { href, target: "_blank", rel: "noopener noreferrer", class: "button second" });
}
