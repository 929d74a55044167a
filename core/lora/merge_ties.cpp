#include "core/lora/merge_ties.hpp"

namespace bv::lora {
namespace {

constexpr std::string_view kHead = "lm_head.weight";  // of every tied model of transformers
constexpr std::string_view kEmbedding = "embedding.word_embeddings.weight";

/// The HF name of the embedding; "" when no rule makes one.
std::string embedding_of(const checkpoint::HfModel& base) {
  for (const model::Mapping& mapping : base.model.mappings) {
    if (mapping.rule->megatron.ends_with(kEmbedding) && mapping.hf.size() == 1) {
      return mapping.hf.front();
    }
  }
  return "";
}

}  // namespace

std::vector<Untied> ties_broken(const checkpoint::HfModel& base,
                                const std::map<std::string, TensorEdits, std::less<>>& edits) {
  std::vector<Untied> out;
  const auto note = [&](const std::string& one, const std::string& other, bool is_new) {
    if (edits.contains(one) != edits.contains(other)) {
      out.push_back(edits.contains(one) ? Untied{one, other, is_new} : Untied{other, one, is_new});
    }
  };
  for (const auto& [copy, original] : base.model.must_equal) {
    note(original, copy, false);
  }
  const std::string embedding = embedding_of(base);
  if (base.model.tied && !embedding.empty() && !base.headers.contains(kHead)) {
    note(embedding, std::string(kHead), true);
  }
  return out;
}

}  // namespace bv::lora
