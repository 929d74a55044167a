#include "core/merge/merge_ties.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/checkpoint/config_text.hpp"
#include "core/io/fault_text.hpp"

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

Status check_unknown_ties(const checkpoint::HfModel& base,
                          const std::map<std::string, TensorEdits, std::less<>>& edits) {
  if (base.model.family || base.config_text.empty()) {
    return Done{};
  }
  BV_TRY(config, checkpoint::parse_config(base.config_text, "config.json"));
  const auto tied = config.find("tie_word_embeddings");
  const auto rows = config.find("vocab_size");
  const bool apart = tied != config.end() && tied->is_boolean() && !tied->get<bool>();
  for (const auto& [tensor, edit] : edits) {
    const auto spec = base.headers.find(tensor);
    const bool vocabulary = rows == config.end() || !rows->is_number_integer() ||
                            (spec != base.headers.end() && !spec->second.shape.empty() &&
                             spec->second.shape.front() == rows->get<std::int64_t>());
    if (!apart && vocabulary) {
      return fail(Code::MergeTied,
                  fmt::format("the adapter changes {}, and no family of {} says what is tied to it",
                              io::printable(tensor), io::printable(base.architecture)))
          .pair("a change of the vocabulary",
                "tie_word_embeddings false, or a family that is known")
          .advise("name a family of equal structure with --family NAME");
    }
  }
  return Done{};
}

}  // namespace bv::lora
