#include <fmt/format.h>

#include <map>
#include <set>

#include "core/base/text.hpp"
#include "oracles/model_style.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/forward_suspects.hpp"
#include "properties/claims/rotary_of.hpp"

namespace bv::claims {
namespace {

namespace fw = oracle::forward;

constexpr std::uint64_t kDraws = 2;  // random models, each with its own input
constexpr std::int64_t kTokens = 7;

Verdict about_model(const Subject& subject, const std::string& id) {
  Verdict out;
  out.claim = "forward";
  out.layout = id;
  out.cases = static_cast<std::int64_t>(kDraws);
  out.replay = fmt::format("{} --only forward --layout {}", subject.replay, id);
  if (subject.replay.find("--seed ") == std::string::npos) {
    out.replay += fmt::format(" --seed {}", subject.budget.seed);
  }
  return out;
}

/// The checkpoint under the names of the model that the family says it computes like.
fw::NamedTensors as_stated(const model::Model& model, const fw::NamedTensors& weights) {
  fw::NamedTensors out;
  for (const auto& [name, tensor] : weights) {
    std::string there = name;
    for (const auto& [here, instead] : family::stated_facts(*model.family).renamed) {
      if (const std::size_t at = there.find(here); at != std::string::npos) {
        there.replace(at, here.size(), instead);
      }
    }
    out.emplace(std::move(there), tensor);
  }
  return out;
}

/// One random model with its subject, and what the HF form computes of it.
struct Draw {
  fw::NamedTensors weights;
  fw::Inputs inputs;
  Result<fw::Outputs> wanted;
};

/// Draws of the small model in use: layouts one after the other often share it.
class Draws {
 public:
  explicit Draws(const Subject& subject) : subject_(subject), models_(subject) {}

  Result<std::shared_ptr<const SmallModel>> model_on(const parallel::Layout& layout) {
    BV_TRY(small, models_.on(layout));
    if (small != small_) {
      draws_.clear();
      small_ = small;
    }
    return small_;
  }

  const Draw& at(std::uint64_t number) {
    const auto known = draws_.find(number);
    if (known != draws_.end()) {
      return known->second;
    }
    const fw::Functions& forward = *subject_.budget.oracle.forward;
    const std::uint64_t seed = subject_.budget.seed + number;
    auto weights = random_weights(small_->headers, seed);
    auto inputs = forward.probe_inputs(small_->facts, kTokens, seed);
    auto wanted = forward.hf_forward(small_->facts, as_stated(small_->wanted, weights), inputs);
    return draws_.emplace(number, Draw{std::move(weights), std::move(inputs), std::move(wanted)})
        .first->second;
  }

 private:
  const Subject& subject_;
  SmallModels models_;
  std::shared_ptr<const SmallModel> small_;
  std::map<std::uint64_t, Draw> draws_;
};

/// One layout: the shards of its small model made and computed for each draw.
class ForwardCheck {
 public:
  ForwardCheck(const Subject& subject, const parallel::Layout& layout, Draws& draws,
               Verdict& verdict)
      : subject_(subject), layout_(layout), draws_(draws), verdict_(verdict) {}

  void run() {
    const foreign::RotaryRows rotary = rotary_of(subject_);
    if (turned(rotary).order != oracle::Turned::Order::AsStored) {
      return settle(Outcome::Unsupported,
                    fail(Code::NoTargetLayout, "the forward form of Megatron rotates as HF does")
                        .pair(rotary.because, "one order on both sides")
                        .advise("placement judges the rows of q and k by what the file says"));
    }
    auto made = draws_.model_on(layout_);
    if (!made) {
      return leave_open(made.error());
    }
    small_ = std::move(*made);
    auto plan = plan::Plan::make(small_->model, *subject_.kinds, layout_);
    if (!plan) {
      return refuse(plan.error());
    }
    describe();
    for (std::uint64_t number = 0; number < kDraws && !decided_; ++number) {
      compute(*plan, draws_.at(number));
    }
    if (!decided_) {
      verdict_.outcome = Outcome::Held;
      verdict_.evidence = {.oracle = true, .sampled = true};
      verdict_.extent =
          fmt::format("largest difference {:.1e}, {:.0e} allowed", largest_, kForwardTolerance);
    }
  }

 private:
  /// The family file says what the model computes like, and no oracle knows the model by itself.
  [[nodiscard]] bool rests_on_statement() const {
    return claims::rests_on_statement(subject_.base());
  }
  [[nodiscard]] std::string stated_like() const { return stated(subject_.base().model).like; }

  /// Without an image in the input the vision tower is not computed.
  [[nodiscard]] bool leaves_out(const fw::Outputs& computed) const {
    return !computed.unread.empty() &&
           (small_->facts.vision.depth == 0 || computed.vision_output.has_value());
  }

  /// The stated model cannot be computed with these tensors and this config, or leaves some of them
  /// out: the statement is wrong.
  void refute_statement(const Error& error) {
    settle(Outcome::Refuted, error);
    verdict_.why = fmt::format("the family file states that the model computes like {}",
                               escaped(stated_like()));
    verdict_.help = "correct facts.computes_like, or facts.renamed, in the family file";
  }

  /// The claim has no answer: the family has no forward form, or no small model is like this one.
  void leave_open(const Error& error) {
    if (rests_on_statement() && error.code != Code::ArchitectureUnknown &&
        error.code != Code::LayerOnNoStage) {
      return refute_statement(error);
    }
    const bool no_form = error.code == Code::ArchitectureUnknown || error.code == Code::ConfigField;
    settle(no_form ? Outcome::Unsupported : Outcome::Inconclusive, error);
  }
  void refuse(const Error& error) { settle(Outcome::Refuted, error); }

  void settle(Outcome outcome, const Error& error) {
    decided_ = true;
    verdict_.outcome = outcome;
    verdict_.code = error.code;
    verdict_.title = error.message;
    verdict_.found = error.found;
    verdict_.wanted = error.wanted;
    verdict_.help = error.help;
    verdict_.refuted_cases = outcome == Outcome::Refuted ? 1 : 0;
  }

  void describe() {
    verdict_.facts.push_back(fmt::format(
        "small model: {} layers, hidden {}, {} heads, {} key/value heads, {} experts, vocabulary "
        "{}; {} weights",
        small_->facts.layers, small_->facts.hidden, small_->facts.heads, small_->facts.kv_heads,
        small_->facts.moe.experts, small_->facts.vocab, thousands(small_->elements)));
    verdict_.facts.push_back(fmt::format("{} random models and inputs from seed {}, float64",
                                         kDraws, subject_.budget.seed));
    const oracle::ModelStyle* style = oracle::style_of(subject_.base().model_type);
    if (style != nullptr && style->classless) {
      verdict_.facts.push_back(
          "transformers has no class of this model: both forms are written from "
          "the code beside its checkpoints, and held against none");
    }
  }

  void compute(const plan::Plan& plan, const Draw& draw) {
    if (!draw.wanted) {
      return leave_open(draw.wanted.error());
    }
    if (rests_on_statement() && leaves_out(*draw.wanted)) {
      return refute_statement(
          fail(Code::HfTensorUnused, fmt::format("a model like {} computes without {}",
                                                 escaped(stated_like()), draw.wanted->unread[0]))
              .pair(
                  fmt::format("{} tensors that nothing computes with", draw.wanted->unread.size()),
                  "every tensor used"));
    }
    name_what_takes_no_part(*draw.wanted);
    const auto ranks = moved(plan, draw.weights);
    const auto found =
        subject_.budget.oracle.forward->megatron_forward(small_->facts, ranks, draw.inputs);
    ForwardRun run{small_.get(), &plan, &draw.weights, &ranks, &draw.inputs, &*draw.wanted, {}};
    if (!found) {
      if (!blames_shards(found.error().code)) {
        return settle(Outcome::Inconclusive, found.error());
      }
      refuse(found.error());
      return name_suspects(run);
    }
    const Compared result = compared(*draw.wanted, *found);
    largest_ = std::max(largest_, result.largest);
    if (result.first) {
      report(*result.first);
      run.position = result.first->position;
      name_suspects(run);
    }
  }

  /// What no form computes: towers around a text model, MTP layers of a kind of their own.
  void name_what_takes_no_part(const fw::Outputs& computed) {
    if (told_) {
      return;
    }
    told_ = true;
    std::set<std::string, std::less<>> mtp;
    std::set<std::string, std::less<>> seeing;
    for (const model::Mapping& mapping : small_->wanted.mappings) {
      auto& names = mapping.stage == family::Stage::Mtp ? mtp : seeing;
      if (mapping.stage == family::Stage::Mtp || mapping.stage == family::Stage::Vision) {
        names.insert(mapping.hf.begin(), mapping.hf.end());
      }
    }
    std::vector<std::string> unread_mtp;
    std::vector<std::string> others;
    for (const std::string& name : computed.unread) {
      if (!seeing.contains(name)) {
        (mtp.contains(name) ? unread_mtp : others).push_back(name);
      }
    }
    name_idle("what sees or hears takes no part", small_->towers);
    name_idle("MTP layers of this kind take no part", unread_mtp);
    name_idle("nothing computes with these", others);
  }
  void name_idle(std::string_view what, const std::vector<std::string>& tensors) {
    if (!tensors.empty()) {
      verdict_.facts.push_back(fmt::format("{}: {}, as {}", what, counted(tensors.size(), "tensor"),
                                           escaped(tensors.front())));
    }
  }

  void report(const FirstDifference& first) {
    decided_ = true;
    verdict_.outcome = Outcome::Refuted;
    verdict_.code = Code::ForwardDiffers;
    verdict_.refuted_cases = 1;
    verdict_.title = fmt::format("the model computes something else: {} differs by {:.3g}",
                                 first.output, first.largest);
    verdict_.found = fmt::format("{:.6g}", first.found);
    verdict_.wanted =
        fmt::format("{:.6g} at {} of {}", first.wanted, shape_text(first.index), first.output);
    if (rests_on_statement()) {
      verdict_.facts.push_back(
          fmt::format("stated by the family file: computes_like {}", escaped(stated_like())));
    }
    verdict_.extent = fmt::format("{} of {} elements of {}, the first output that differs",
                                  thousands(first.wrong), thousands(first.elements), first.output);
    Counterexample example;
    example.tensor = first.output;
    example.index = first.index;
    example.wanted = {fmt::format("{:.6g}", first.wanted), {}};
    example.found = {fmt::format("{:.6g}", first.found), {}};
    verdict_.counterexamples.push_back(std::move(example));
  }

  void name_suspects(const ForwardRun& run) {
    const Suspects suspects = find_suspects(subject_, run);
    verdict_.help = subject_.replay + " --only placement,values names the elements";
    if (!suspects.rules.empty()) {
      verdict_.why =
          fmt::format("with the right shards of {} the output is right: {}",
                      suspects.rules.size() == 1 ? "this rule alone" : "any of these rules",
                      join(suspects.parameters, ", "));
      verdict_.megatron = suspects.parameters.front();
      for (std::size_t i = 0; i < suspects.rules.size(); ++i) {
        verdict_.facts.push_back(
            fmt::format("at fault: {}  {}", suspects.rules[i], suspects.parameters[i]));
      }
    } else if (!suspects.why_not.empty()) {
      verdict_.why = "no rule can be named: " + suspects.why_not;
    } else {
      verdict_.why = suspects.restored
                         ? "several rules are wrong: right shards of any single one do not help"
                         : "right shards of every rule do not help: the fault is in a name, a "
                           "stage or the oracle";
    }
  }

  const Subject& subject_;
  const parallel::Layout& layout_;
  Draws& draws_;
  Verdict& verdict_;
  std::shared_ptr<const SmallModel> small_;
  bool decided_ = false;
  bool told_ = false;  // what takes no part
  double largest_ = 0.0;
};

}  // namespace

std::int64_t count_forward(const Subject& subject) {
  return std::ssize(subject.layouts) * static_cast<std::int64_t>(kDraws);
}

std::vector<Verdict> check_forward(const Subject& subject) {
  std::vector<Verdict> out;
  Draws draws(subject);
  for (const parallel::Layout& layout : subject.layouts) {
    Verdict verdict = about_model(subject, parallel::layout_id(layout));
    if (subject.budget.oracle.forward == nullptr) {
      verdict.outcome = Outcome::Inconclusive;
      verdict.code = Code::ModuleMissing;
      verdict.title =
          "the forward claim needs the module bv_forward.so, which is built with LibTorch";
      verdict.help = "install libtorch-dev and build again";
    } else if (subject.budget.progress != nullptr && subject.budget.progress->stop_requested()) {
      verdict.outcome = Outcome::Inconclusive;
      verdict.code = Code::Stopped;
      verdict.title = "stopped before this layout was computed";
      verdict.help = "run it again";
    } else {
      ForwardCheck(subject, layout, draws, verdict).run();
    }
    if (subject.budget.progress != nullptr) {
      subject.budget.progress->advance(0, 1, verdict.layout);
    }
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace bv::claims
