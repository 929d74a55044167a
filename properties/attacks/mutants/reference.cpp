// What is right in one world: element tags, the oracle's statement about every shard, and exact
// values.

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <tuple>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "properties/attacks/mutants/judge.hpp"
#include "properties/attacks/mutants/tags.hpp"

namespace bv::mutants {
namespace {

/// Numbers of layers as "#": what a module computes with does not depend on which layer it is, so
/// that one answer serves all of them.
std::string without_layer(std::string_view name) {
  std::string out;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string_view word = name.substr(at, end - at);
    const bool numbered = out.ends_with("layers.") || out.ends_with("blocks.");
    const bool number = !word.empty() && word.find_first_not_of("0123456789") == word.npos;
    out += numbered && number ? "#" : word;
    out += end < name.size() ? "." : "";
    at = end + 1;
  }
  return out;
}

/// Everything of a question that its answer depends on within one model.
std::string key_of(const oracle::Question& question) {
  std::string out = fmt::format("{} {} {} {} {} {}", without_layer(question.parameter),
                                question.shard_size, question.shard_rank, question.expert,
                                question.padded_vocab, question.in_out_stack);
  for (std::size_t i = 0; i < question.hf_names.size(); ++i) {
    out += " " + without_layer(question.hf_names[i]) + shape_text(question.hf[i].shape);
  }
  return out;
}

/// Order of shards by the content that they must hold.
struct Earlier {
  using Key = std::tuple<std::string, std::int64_t, std::span<const std::int64_t>>;
  bool operator()(const Key& a, const Key& b) const {
    const auto& [name_a, expert_a, tags_a] = a;
    const auto& [name_b, expert_b, tags_b] = b;
    return std::tie(name_a, expert_a) != std::tie(name_b, expert_b)
               ? std::tie(name_a, expert_a) < std::tie(name_b, expert_b)
               : std::lexicographical_compare(tags_a.begin(), tags_a.end(), tags_b.begin(),
                                              tags_b.end());
  }
};

/// FNV-1a: a tensor has the same values in every world that it is part of.
std::uint64_t first_state(std::string_view name) {
  std::uint64_t out = 0xCBF29CE484222325ULL;
  for (const char c : name) {
    out = (out ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  }
  return out;
}

}  // namespace

Tensors exact_values(const Headers& headers) {
  Tensors out;
  for (const auto& [name, spec] : headers) {
    std::uint64_t state = first_state(name);
    Tensor tensor{spec.dtype, spec.shape, {}};
    const auto count = static_cast<std::size_t>(element_count(spec.shape).value());
    const auto size = static_cast<std::size_t>(bytes(spec.dtype));
    tensor.bytes.resize(count * size);
    for (std::size_t i = 0; i < count; ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      const auto draw = static_cast<std::int64_t>(state >> 40U);
      double value = static_cast<double>(draw % 127 - 63) / 128.0;
      if (spec.shape.size() == 1) {
        value = 1.0 + static_cast<double>(draw % 61 + 1) / 128.0;
        if (spec.dtype == DType::F32) {
          value += static_cast<double>(draw % 31 + 1) / 65536.0;  // bf16 cannot hold it
        }
      }
      kinds::store(value, tensor.bytes.data() + i * size, spec.dtype);
    }
    out.emplace(name, std::move(tensor));
  }
  return out;
}

Result<Reference> Reference::make(const Library& library, std::shared_ptr<const Case> one,
                                  const parallel::Layout& layout, const oracle::Entry& entry) {
  Reference out;
  out.case_ = std::move(one);
  BV_TRY(right, compile(out.case_->model, library.kinds, layout));
  out.right_ = std::move(right);
  for (const auto& [name, spec] : out.case_->headers) {
    TensorSpec tags{name, DType::I64, spec.shape};
    Tensor tensor{DType::I64, spec.shape, {}};
    const auto count = static_cast<std::size_t>(element_count(spec.shape).value());
    tensor.bytes.resize(count * sizeof(std::int64_t));
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t tag = static_cast<std::int64_t>(out.numbers_.size()) * kTensorTag +
                               static_cast<std::int64_t>(i) + 1;
      std::memcpy(tensor.bytes.data() + i * sizeof tag, &tag, sizeof tag);
    }
    out.numbers_.push_back(name);
    out.tags_.emplace(name, std::move(tensor));
    out.tag_headers_.emplace(name, std::move(tags));
  }
  BV_CHECK(out.ask_oracle(entry));
  out.find_owners();
  out.values_ = exact_values(out.case_->headers);
  Tensors hf = out.values_;
  out.wanted_values_ = run_import(out.right_, out.right_, hf, poison);
  return out;
}

Status Reference::ask_oracle(const oracle::Entry& entry) {
  wanted_.resize(right_.files.size());
  const model::Model& model = case_->model;
  std::map<std::string, oracle::TaggedTensor> answers;
  for (const Move& move : right_.moves) {
    const family::Rule& rule = *model.mappings[move.mapping].rule;
    oracle::Question question;
    question.parameter = move.global_name;
    question.hf_names = move.hf;
    std::vector<std::int64_t> bases;
    for (const std::string& hf : move.hf) {
      const auto number = std::lower_bound(numbers_.begin(), numbers_.end(), hf) - numbers_.begin();
      question.hf.push_back({tag_headers_.find(hf)->second.shape, {}});
      bases.push_back(number * kTensorTag);
    }
    question.shard_size = rule.expert ? right_.layout.etp : right_.layout.tp;
    question.shard_rank = move.t;
    question.expert = move.expert;
    if (rule.vocabulary) {
      BV_TRY(padded, plan::padded_rows(move.hf_shapes[0][0], right_.layout));
      question.padded_vocab = padded;
    }
    question.in_out_stack = rule.orientation == family::Orientation::InOut;
    const auto [answer, fresh] = answers.try_emplace(rule.id + " " + key_of(question));
    if (fresh) {
      question.numbers = model.geometry.with(rule.sizes);
      question.model_type = case_->model_type;
      for (std::size_t source = 0; source < question.hf.size(); ++source) {
        oracle::TaggedTensor& tagged = question.hf[source];
        tagged.tags.resize(static_cast<std::size_t>(element_count(tagged.shape).value()));
        std::iota(tagged.tags.begin(), tagged.tags.end(),
                  static_cast<std::int64_t>(source) * kTensorTag);
      }
      auto wanted = entry.wanted_shard(question);
      if (!wanted) {
        return fail(Code::NoTargetLayout,
                    fmt::format("no independent statement for {}: {}", move.global_name,
                                entry.why_unanswered(question)))
            .advise("add the parameter to oracles/target_layout.cpp");
      }
      answer->second = std::move(*wanted);
    }
    oracle::TaggedTensor wanted = answer->second;
    for (std::int64_t& tag : wanted.tags) {
      tag = tag < 0 ? 0 : bases[static_cast<std::size_t>(tag / kTensorTag)] + tag % kTensorTag + 1;
    }
    wanted_[move.file].emplace(move.name, std::move(wanted));
  }
  return Done{};
}

void Reference::find_owners() {
  std::map<Earlier::Key, std::size_t, Earlier> first;
  for (std::size_t i = 0; i < right_.moves.size(); ++i) {
    const Move& move = right_.moves[i];
    const auto& wanted = wanted_[move.file].find(move.name)->second;
    first_owner_.push_back(
        first.emplace(std::tuple{move.hf.front(), move.expert, std::span(wanted.tags)}, i)
            .first->second);
  }
}

ElementRef Reference::element_of(std::int64_t tag) const {
  if (tag == 0) {
    return {"zero", {}};
  }
  const std::int64_t at = tag - 1;
  const std::int64_t number = at / kTensorTag;
  if (tag == kUnwritten || at < 0 || number >= static_cast<std::int64_t>(numbers_.size())) {
    return {"nothing", {}};
  }
  const std::string& name = numbers_[static_cast<std::size_t>(number)];
  return {name, index_of(at % kTensorTag, tag_headers_.find(name)->second.shape)};
}

}  // namespace bv::mutants
