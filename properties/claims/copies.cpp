#include "properties/claims/copies.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/checkpoint/source_tensor.hpp"

namespace bv::claims {
namespace {

std::string type_and_shape(const TensorSpec& spec) {
  return fmt::format("{} {}", name(spec.dtype), shape_text(spec.shape));
}

Verdict about_copy(const std::string& copy, const std::string& original) {
  Verdict out;
  out.claim = "values";
  out.rule = "copy:" + copy;
  out.kind = "copy";
  out.megatron = original;
  out.hf = {copy, original};
  out.cases = 1;
  out.code = Code::TiedEmbeddings;
  return out;
}

Verdict differs(Verdict out, std::string found, std::string wanted) {
  out.outcome = Outcome::Refuted;
  out.refuted_cases = 1;
  out.title = fmt::format("{} is stored beside {} and differs from it", out.hf[0], out.hf[1]);
  out.found = std::move(found);
  out.wanted = std::move(wanted) + ": Megatron keeps one tensor for both";
  out.help =
      "set tie_word_embeddings to false if the two are meant to differ, else remove " + out.hf[0];
  return out;
}

Verdict judge_copy(const io::TensorStore& store, Verdict out) {
  const checkpoint::SourceTensor copy{&store, store.find(out.hf[0])};
  const checkpoint::SourceTensor original{&store, store.find(out.hf[1])};
  if (copy.spec->dtype != original.spec->dtype || copy.spec->shape != original.spec->shape) {
    return differs(std::move(out), type_and_shape(*copy.spec), type_and_shape(*original.spec));
  }
  const checkpoint::WholeTensor first(copy);
  const checkpoint::WholeTensor second(original);
  for (const checkpoint::WholeTensor* one : {&first, &second}) {
    if (!one->status()) {  // it cannot be made: nothing is written of it
      const Error& error = one->status().error();
      out.outcome = Outcome::Inconclusive;
      out.code = error.code;
      out.title = error.message;
      out.help = error.help;
      return out;
    }
  }
  const bool equal = std::ranges::equal(first.bytes(), second.bytes());
  store.release(first.bytes());
  store.release(second.bytes());
  if (!equal) {
    return differs(std::move(out), "different bytes", "equal bytes");
  }
  out.outcome = Outcome::Held;
  out.evidence.bytes = true;
  return out;
}

}  // namespace

std::vector<Verdict> judge_copies(
    const io::TensorStore* store,
    const std::vector<std::pair<std::string, std::string>>& must_equal) {
  std::vector<Verdict> out;
  for (const auto& [copy, original] : must_equal) {
    Verdict verdict = about_copy(copy, original);
    if (store == nullptr) {
      verdict.outcome = Outcome::Inconclusive;
      verdict.code = Code::NoBytes;
      verdict.title = fmt::format("{} and {} must hold equal bytes; there are no bytes to compare",
                                  copy, original);
      verdict.help = "give the directory with the weights instead of headers";
      out.push_back(std::move(verdict));
    } else {
      out.push_back(judge_copy(*store, std::move(verdict)));
    }
  }
  return out;
}

}  // namespace bv::claims
