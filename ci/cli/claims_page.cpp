#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::cli {
namespace {

/// What must be there before the claim is judged, as a sentence; "" when nothing more is needed.
std::string needs_text(const claims::Claim& claim) {
  std::string out;
  if (claim.needs_bytes) {
    out += " Needs the bytes of the checkpoint: headers alone leave it undecided.";
  }
  if (claim.needs_shapes) {
    out += " Not judged while a header has a wrong shape.";
  }
  if (claim.needs_forward) {
    out += " Needs the forward oracles (LibTorch).";
  }
  if (claim.needs_device) {
    out += " Only with a device (`--device cuda`), or when it is named by `--only`.";
  }
  return out;
}

std::string claim_section(const claims::Claim& claim) {
  std::string out = fmt::format(
      "\n## {}\n\n- Says: {}.\n- Shown as: {}.\n- Evidence: {}.\n- Asked from `--level {}` "
      "on.{}\n- "
      "Counts {}.\n",
      claim.id, claim.statement, claim.title, claim.known_by, name(claim.level), needs_text(claim),
      claim.noun);
  if (!claim.vacuous.empty()) {
    out += fmt::format("- Has no subject when {}.\n", claim.vacuous);
  }
  return out;
}

std::string adapter_section() {
  std::string out =
      "\n## Adapters\n\nWhat is said of an adapter on its base.\n\n"
      "| claim | says | how it is known | counts | asked |\n|---|---|---|---|---|\n";
  for (const claims::AdapterClaim& claim : claims::kAdapterCatalogue) {
    out += fmt::format("| {} | {} | {} | {} | {} |\n", claim.id, claim.statement, claim.known_by,
                       claim.noun, claim.asked);
  }
  return out;
}

}  // namespace

std::string claims_table() {
  std::string out = "| claim | says | how it is known |\n|---|---|---|\n";
  for (const claims::Claim& claim : claims::catalogue()) {
    out += fmt::format("| {} | {} | {} |\n", claim.id, claim.statement, claim.known_by);
  }
  return out;
}

std::string claims_page() {
  std::string out =
      "# Claims\n\n"
      "Made by `bridge-verify __dump-claims docs/reference/claims.md` from "
      "`properties/claims/catalogue.hpp` and `adapter.hpp`; a test compares it.\n\n"
      "A run asks the claims of its level, in this order. A claim counts its subjects first; each "
      "ends in exactly one verdict.\n"
      "`--only` and `--skip` choose by name. Evidence letters are explained in "
      "[messages](messages.md#evidence-letters).\n\n" +
      claims_table();
  for (const claims::Claim& claim : claims::catalogue()) {
    out += claim_section(claim);
  }
  return out + adapter_section();
}

}  // namespace bv::cli
