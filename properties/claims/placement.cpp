#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/usual.hpp"
#include "core/move/tensor_maker.hpp"
#include "properties/claims/built_modules.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/compared_sizes.hpp"
#include "properties/claims/rotary_of.hpp"
#include "properties/claims/tag_runs.hpp"

namespace bv::claims {
namespace {

constexpr std::int64_t kTaggedMax = std::int64_t{1} << 24;  // of all sources of a rule

struct Tagged {
  std::vector<oracle::TaggedTensor> hf;
  std::vector<std::vector<std::int64_t>> shifted;  // tag + 1, so that padding is 0 as in memory
};

Tagged tag(const std::vector<Shape>& shapes) {
  Tagged out;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    oracle::TaggedTensor tensor;
    tensor.shape = shapes[i];
    const auto count = static_cast<std::size_t>(element_count(shapes[i]).value());
    tensor.tags.resize(count);
    std::vector<std::int64_t> shifted(count);
    for (std::size_t k = 0; k < count; ++k) {
      tensor.tags[k] = static_cast<std::int64_t>(i) * kTensorTag + static_cast<std::int64_t>(k);
      shifted[k] = tensor.tags[k] + 1;
    }
    out.hf.push_back(std::move(tensor));
    out.shifted.push_back(std::move(shifted));
  }
  return out;
}

std::vector<std::int64_t> run_engine(const layout::Shard& shard, const Tagged& tagged) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(element_count(shard.shape).value()),
                                kUnwritten);
  std::vector<const std::byte*> sources;
  for (const auto& shifted : tagged.shifted) {
    sources.push_back(reinterpret_cast<const std::byte*>(shifted.data()));
  }
  move::make_whole(shard.boxes, sources, sizeof(std::int64_t),
                   reinterpret_cast<std::byte*>(out.data()));
  for (std::int64_t& tag : out) {
    tag = tag == kUnwritten ? kUnwritten : tag - 1;
  }
  return out;
}

/// One (rule, t) compared with the oracle on every rank.
class Comparison {
 public:
  Comparison(const Subject& subject, const RuleUse& use, const parallel::Layout& layout,
             const BuiltModules& built, const foreign::UsualModules* table)
      : subject_(subject),
        model_(use.model()),
        use_(use),
        layout_(layout),
        built_(built),
        table_(table),
        rotary_(rotary_of(subject)),
        turned_(turned(rotary_)) {}

  void run(Verdict& verdict) {
    const plan::Rebinding small = reduced(model_, *use_.rule, *subject_.kinds, layout_);
    auto bound = plan::bind_rule(*subject_.kinds, model_.geometry, *use_.rule, layout_, small);
    numbers_ = model_.geometry.with(use_.rule->sizes);
    for (const auto& [symbol, size] : small.symbols) {
      numbers_[symbol] = size;
    }
    if (!bound) {
      return refuse(verdict, bound.error().message);
    }
    if (!is_small(bound->source_shapes(), verdict)) {
      return;
    }
    tagged_ = tag(bound->source_shapes());
    question_.hf = std::move(tagged_.hf);
    verdict.outcome = Outcome::Proved;
    verdict.evidence = {.proved = true, .oracle = true};
    std::set<std::uint32_t> mappings = {use_.mappings.front(), use_.mappings.back()};
    const std::int64_t t = ranks_of(*use_.rule, layout_);
    for (const std::uint32_t m : mappings) {
      const bool stacked = model_.mappings[m].is_stack();
      std::set experts = {stacked ? bound->size("E") - 1 : model_.mappings[m].expert};
      for (std::int64_t e = 0; stacked && e < (use_.rule->expert ? 1 : bound->size("E")); ++e) {
        experts.insert(e);
      }
      for (const std::int64_t expert : experts) {
        for (std::int64_t rank = 0; rank < t && verdict.outcome == Outcome::Proved; ++rank) {
          compare(*bound, model_.mappings[m], expert, rank, verdict);
        }
      }
    }
  }

 private:
  /// Every element is tagged and held on both sides.
  static bool is_small(const std::vector<Shape>& shapes, Verdict& verdict) {
    std::int64_t elements = 0;
    for (const Shape& shape : shapes) {
      elements = capped_add(elements, element_count(shape).value());
    }
    if (elements <= kTaggedMax) {
      return true;
    }
    verdict.outcome = Outcome::Inconclusive;
    verdict.code = Code::TooLargeToCheck;
    verdict.title = fmt::format("{} elements of {} are too many to compare one by one",
                                thousands(elements), verdict.hf.front());
    verdict.found = counted(elements, "element");
    verdict.wanted = fmt::format("at most {}", thousands(kTaggedMax));
    verdict.help = "check the sizes in config.json and the headers";
    return false;
  }

  void refuse(Verdict& verdict, std::string title) const {
    verdict.outcome = Outcome::Refuted;
    verdict.code = Code::RulesInvalid;
    verdict.title = std::move(title);
    verdict.help = "correct the rule: bridge-verify rules show";
  }

  void compare(const layout::BoundRule& bound, const model::Mapping& mapping, std::int64_t expert,
               std::int64_t rank, Verdict& verdict) {
    const layout::Shard shard =
        bound.shard(0, {{"t", rank}, {"E", std::max<std::int64_t>(expert, 0)}});
    oracle::Question& question = question_;
    question.parameter = model_.megatron_name(mapping, expert);
    question.numbers = numbers_;
    question.hf_names = mapping.hf;
    question.shard_size = ranks_of(*use_.rule, layout_);
    question.shard_rank = rank;
    question.expert = expert;
    question.padded_vocab =
        use_.rule->vocabulary ? bound.size("v") + bound.size("p") : padded_rows();
    question.in_out_stack = use_.rule->orientation == family::Orientation::InOut;
    question.model_type = use_.source().model_type;
    question.stated = stated(model_);
    question.turned = turned_;
    question.built = built_.of(question.parameter, mapping.hf.front(), whole_shape(mapping));
    if (oracle::answered_by_build(question)) {
      verdict.evidence = {.proved = true, .upstream = true};
    }
    auto wanted = subject_.budget.oracle.wanted_shard(question);
    const bool slices = mapping.is_stack() && !use_.rule->expert;
    if (slices && (!wanted || wanted->shape != shard.shape)) {
      oracle::Question one = question;
      one.hf = {slice_of(question.hf.front(), expert)};  // of a module without such tensors
      wanted = subject_.budget.oracle.wanted_shard(one);
      if (!wanted) {
        return undecided(one, verdict);
      }
    }
    if (!wanted) {
      return undecided(question, verdict);
    }
    const auto found = run_engine(shard, tagged_);
    const bool same = found == wanted->tags;
    if (same && wanted->shape == shard.shape) {
      return;
    }
    if (table_ != nullptr && (same || is_guess(question.parameter, shard.shape, wanted->shape))) {
      return doubt(question.parameter, shard.shape, wanted->shape, verdict);
    }
    if (wanted->shape != shard.shape) {
      verdict.outcome = Outcome::Refuted;
      verdict.code = Code::ShapeMismatch;
      verdict.title = fmt::format("{} has another shape on rank {}", question.parameter, rank);
      verdict.found = shape_text(shard.shape);
      verdict.wanted = shape_text(wanted->shape);
      verdict.help = "compare the rule's axes with the Megatron module";
      return;
    }
    report(bound, mapping, question.parameter, shard.shape, rank, found, wanted->tags, verdict);
  }

  void undecided(const oracle::Question& question, Verdict& verdict) const {
    verdict.outcome = Outcome::Inconclusive;
    verdict.code = Code::NoTargetLayout;
    verdict.title = fmt::format("no independent statement for {}: {}", question.parameter,
                                subject_.budget.oracle.why_unanswered(question));
    verdict.help =
        "look at this module of the built Megatron model: the oracles do not know how it "
        "computes, so its placement stays undecided";
    verdict.evidence = {};
  }

  /// A vocabulary that a rule cuts as it would another matrix: Megatron pads its rows all the same.
  [[nodiscard]] std::int64_t padded_rows() const {
    const Shape& shape = question_.hf.front().shape;
    const std::int64_t multiple = layout_.vocab_divisor.value_or(0) * layout_.tp;
    return multiple <= 0 || shape.empty() ? 0
                                          : (shape.front() + multiple - 1) / multiple * multiple;
  }

  /// A name alone does not say that the module is Megatron's own: towers of HF's classes have such
  /// names too. Neither does it say how many rows a module has that computes more than is known.
  [[nodiscard]] bool is_guess(const std::string& parameter, const Shape& made,
                              const Shape& wanted) const {
    const std::size_t block = parameter.rfind("decoder.layers.");
    const std::string prefix = block == std::string::npos
                                   ? foreign::text_prefix(subject_.under_test->rules)
                                   : parameter.substr(0, block);
    const std::string usual = foreign::anatomy_of(parameter, prefix).usual;
    const std::int64_t here = element_count(made).value_or(0);
    const std::int64_t there = element_count(wanted).value_or(0);
    const std::int64_t t = ranks_of(*use_.rule, layout_);
    const bool other_cut = here == there || here == there * t || here * t == there;
    return !other_cut || usual.empty() || table_->find(usual).empty();
  }

  static void doubt(const std::string& parameter, const Shape& made, const Shape& wanted,
                    Verdict& verdict) {
    verdict.outcome = Outcome::Inconclusive;
    verdict.code = Code::NoTargetLayout;
    verdict.title = fmt::format(
        "no independent statement for {}: its module is known by its name alone, and one of "
        "Megatron-Core by that name has other elements or another shape",
        parameter);
    verdict.found = shape_text(made);
    verdict.wanted = shape_text(wanted);
    verdict.help =
        "list the parameters of the built model in the rules file (model.parameters), or name a "
        "built-in family of the same structure with --family";
    verdict.evidence = {};
  }

  /// Of the first HF tensor, as its header says it: what is compared may be smaller.
  [[nodiscard]] Shape whole_shape(const model::Mapping& mapping) const {
    const Headers& headers = use_.source().headers;
    const auto found = headers.find(mapping.hf.front());
    return found == headers.end() ? Shape() : found->second.shape;
  }

  void report(const layout::BoundRule& bound, const model::Mapping& mapping,
              const std::string& parameter, const Shape& shape, std::int64_t rank,
              const std::vector<std::int64_t>& found, const std::vector<std::int64_t>& wanted,
              Verdict& verdict) const {
    const auto& shapes = bound.source_shapes();
    std::size_t first = 0;
    while (found[first] == wanted[first]) {
      ++first;
    }
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      wrong += found[i] == wanted[i] ? 0 : 1;
    }
    verdict.outcome = Outcome::Refuted;
    verdict.evidence = {};
    verdict.code = Code::WrongPlacement;
    verdict.refuted_cases = verdict.cases;
    verdict.title =
        "elements are in the wrong place; a round trip may pass, and the model is wrong";
    const Sequences shown = sequences_at(found, wanted, shape, first);
    verdict.found = runs_text(shown.found, mapping.hf, shapes);
    verdict.wanted = runs_text(shown.wanted, mapping.hf, shapes);
    const std::string where = fmt::format("{}{}", use_.rule->expert ? "etp" : "tp", rank);
    verdict.facts = {fmt::format("rank {} wanted  {}", where, verdict.wanted),
                     fmt::format("rank {} found   {}", where, verdict.found)};
    verdict.extent =
        fmt::format("{} of {} elements of this shard {}", thousands(wrong),
                    thousands(static_cast<std::int64_t>(found.size())), shape_text(shape));
    verdict.help = "compare the rule's line with the layout of the module";
    if (oracle::is_rotated(parameter) && turned_.order != oracle::Turned::Order::AsStored) {
      verdict.facts.push_back(rotary_.because);
      verdict.help = "bring the rows of q and k into that order, or correct the provider";
    }
    Counterexample example;
    example.tensor = parameter;
    example.rank = where;
    example.index = index_of(static_cast<std::int64_t>(first), shape);
    example.wanted = element_of(wanted[first], mapping.hf, shapes);
    example.found = element_of(found[first], mapping.hf, shapes);
    verdict.counterexamples.push_back(std::move(example));
  }

  const Subject& subject_;
  const model::Model& model_;
  const RuleUse& use_;
  const parallel::Layout& layout_;
  const BuiltModules& built_;
  const foreign::UsualModules* table_;  // set when a module is known by its name alone
  std::map<std::string, std::int64_t, std::less<>> numbers_;  // of the geometry, some made small
  Tagged tagged_;
  oracle::Question question_;  // the same tensors for every mapping and rank
  foreign::RotaryRows rotary_;
  oracle::Turned turned_;
};

/// No family and no list of parameters: modules are known by their names alone.
bool is_guessed(const Subject& subject) {
  return subject.under_test != nullptr && subject.under_test->alone &&
         !subject.under_test->rules.parameters;
}

}  // namespace

std::int64_t count_placement(const Subject& subject) {
  return std::ssize(subject.layouts) * sum_of(subject, &RuleUse::parameters);
}

std::vector<Verdict> check_placement(const Subject& subject) {
  std::vector<Verdict> out;
  const BuiltModules built(subject);
  std::optional<foreign::UsualModules> table;
  if (is_guessed(subject)) {
    auto loaded = foreign::UsualModules::load();
    BV_ASSERT(loaded.has_value());  // a family file of ours
    table = std::move(*loaded);
  }
  std::map<std::tuple<const family::Rule*, std::int64_t, std::int64_t>, Verdict> known;
  for (const RuleUse& use : rule_uses(subject)) {
    const bool right = sizes_are_right(subject, use);
    for (const parallel::Layout& layout : subject.layouts) {
      const std::string id = parallel::layout_id(layout);
      const std::tuple key{use.rule, use.rule->expert ? layout.etp : layout.tp,
                           use.rule->vocabulary ? layout.vocab_divisor.value_or(0) : 0};
      const auto seen = known.find(key);
      Verdict verdict = seen == known.end() ? about(subject, "placement", use, id) : seen->second;
      verdict.cases = use.parameters;
      verdict.layout = id;
      verdict.replay = fmt::format("{} --only placement --layout {}", subject.replay, id);
      if (!right) {
        mark_not_reached(verdict);
      } else if (seen == known.end()) {
        Comparison(subject, use, layout, built, table ? &*table : nullptr).run(verdict);
        known.emplace(key, verdict);
      }
      out.push_back(std::move(verdict));
    }
  }
  return out;
}

}  // namespace bv::claims
