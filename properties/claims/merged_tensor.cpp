#include "properties/claims/merged_tensor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "properties/claims/merge_scale.hpp"
#include "properties/claims/merge_terms.hpp"
#include "properties/claims/merged.hpp"

namespace bv::claims {
namespace {

using oracle::MergeTally;

/// The index of an element in the tensor's own shape.
std::vector<std::int64_t> place_in(const TwoTensors& sides, const MergeTally::Place& place) {
  std::int64_t element = place.row * sides.columns + place.column;
  std::vector<std::int64_t> out(sides.spec.shape.size());
  for (std::size_t i = out.size(); i-- > 0;) {
    out[i] = element % sides.spec.shape[i];
    element /= sides.spec.shape[i];
  }
  return out;
}

Verdict outside(const TwoTensors& sides, const std::vector<Term>& terms, const MergeTally& tally) {
  const MergeTally::Place& place = *tally.first_outside;
  const std::string element =
      fmt::format("{}[{}]", sides.spec.name, fmt::join(place_in(sides, place), ", "));
  const bool twice = tally.outside_rounded_delta == 0;
  Verdict out = refuted_merge(
      sides.spec.name, twice ? Code::MergeRoundedTwice : Code::MergeOutsideBound,
      fmt::format("{} of {} elements of {} are not base plus adapter", thousands(tally.outside),
                  thousands(tally.elements), sides.spec.name),
      fmt::format("{} at {}", place.found, element),
      place.least == place.most ? fmt::format("{}", place.least)
                                : fmt::format("{} to {}", place.least, place.most),
      "merge again with bridge-verify lora merge");
  out.facts.push_back("error over bound, elements: " + histogram_text(tally));
  out.why = twice ? fmt::format(
                        "the delta was rounded to {} before it was added: with that, every "
                        "element is right",
                        name(sides.spec.dtype))
                  : scale_found(sides, terms);
  Counterexample first;
  first.tensor = sides.spec.name;
  first.index = place_in(sides, place);
  first.wanted.tensor = sides.spec.name;
  first.wanted.index = first.index;
  out.counterexamples.push_back(std::move(first));
  return out;
}

}  // namespace

Verdict merge_verdict(const std::string& tensor, Outcome outcome) {
  Verdict out;
  out.claim = "adapter-merge";
  out.hf = {tensor};
  out.outcome = outcome;
  out.cases = 1;
  out.refuted_cases = outcome == Outcome::Refuted ? 1 : 0;
  return out;
}

Verdict refuted_merge(const std::string& tensor, Code code, std::string title, std::string found,
                      std::string wanted, std::string help) {
  Verdict out = merge_verdict(tensor, Outcome::Refuted);
  out.code = code;
  out.title = std::move(title);
  out.found = std::move(found);
  out.wanted = std::move(wanted);
  out.help = std::move(help);
  return out;
}

Verdict judge_merged_tensor(const TensorSpec& spec, std::span<const std::byte> base,
                            std::span<const std::byte> found, const lora::TensorEdits& edits,
                            MergeTally& tally) {
  std::vector<std::byte> wanted(edits.replacement != nullptr ? base.size() : 0);
  if (edits.replacement != nullptr) {
    const lora::Replacement& other = *edits.replacement;
    kinds::cast(other.bytes.data(), other.tensor->spec.dtype, wanted.data(), spec.dtype,
                std::ssize(wanted) / bytes(spec.dtype));
    base = wanted;  // lora_B.bias is added to a trained bias
  }
  const TwoTensors sides(spec, base, found, edits);
  if (edits.replacement != nullptr && edits.pairs.empty() && edits.biases.empty()) {
    const lora::Replacement& other = *edits.replacement;
    if (!std::equal(wanted.begin(), wanted.end(), sides.found.begin())) {
      return refuted_merge(sides.spec.name, Code::BytesDiffer,
                           sides.spec.name + " is not the tensor that was trained", "other bytes",
                           "those of " + other.tensor->spec.name,
                           "merge again with bridge-verify lora merge");
    }
  } else {
    std::vector<Term> terms;
    for (const lora::AdapterPair* pair : edits.pairs) {
      terms.push_back(term_of(*pair));
    }
    for (const lora::BiasDelta* bias : edits.biases) {
      terms.push_back(term_of(*bias));
    }
    const TensorJudge judge(sides);
    for (const Term& term : terms) {
      judge.term(term, term.scale, tally);
    }
    judge.rest(terms, tally);
    if (tally.outside > 0) {
      return outside(sides, terms, tally);
    }
  }
  Verdict out = merge_verdict(sides.spec.name, Outcome::Held);
  out.evidence.bytes = true;
  out.evidence.oracle = true;
  return out;
}

std::string histogram_text(const oracle::MergeTally& tally) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < MergeTally::kBins; ++i) {
    if (tally.histogram[i] == 0) {
      continue;
    }
    const std::string label = i == 0                       ? "0"
                              : i + 1 == MergeTally::kBins ? "above 16"
                              : i + 2 == MergeTally::kBins ? "1 to 16"
                              : i == 9                     ? "to 1"
                                       : fmt::format("to 2^{}", static_cast<int>(i) - 9);
    parts.push_back(fmt::format("{}: {}", label, thousands(tally.histogram[i])));
  }
  return join(parts, "  ");
}

}  // namespace bv::claims
