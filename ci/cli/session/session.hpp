#pragma once
// One road for every command (docs/reference/architecture.md#flow): resolve the model, choose the
// layouts, load the oracle.

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "ci/cli/session/context.hpp"
#include "ci/cli/session/progress.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/convert/convert.hpp"
#include "core/foreign/rules_apply.hpp"
#include "core/io/locate.hpp"
#include "core/plan/layout_set.hpp"
#include "core/verdict/verdict.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::comm {
class Link;
}

namespace bv::cli {

/// Families, built in and of --families, and kinds.
struct Library {
  std::vector<family::FamilyPtr> families;
  kinds::Catalogue kinds;
};
[[nodiscard]] Result<Library> load_library(const Options& options);

/// The located model of --model or --headers. Errors: those of io::locate_model; BadValue when
/// neither is given.
[[nodiscard]] Result<io::LocatedModel> locate(const Context& context, const Options& options);
/// Roots from HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME.
[[nodiscard]] io::LocateRoots locate_roots(const Context& context);

/// Opens what --model or --headers names as an HF model. `fixture:NAME` is made in a temporary
/// folder that lives as long as the value.
struct OpenedModel {
  checkpoint::HfModel hf;
  std::string reference;  // as the user wrote it
  std::string source;     // dir, cache, headers, fixture
  std::vector<std::string> notes;
  std::vector<Error> warnings;
  std::shared_ptr<void> keeps;                                // the temporary folder of a fixture
  std::shared_ptr<const foreign::RulesUnderTest> under_test;  // --rules; else null
};
/// Shards that the index of a checkpoint names and that are not there: an error, or a model of
/// which the names alone are known (HfModel::incomplete).
enum class AbsentShards { Refuse, Name };
/// Tensors that are no part of the model, by their whole names: what --exclude took once.
using LeftOut = std::set<std::string, std::less<>>;
[[nodiscard]] Result<OpenedModel> open_model(const Context& context, const Options& options,
                                             const Library& library,
                                             AbsentShards absent = AbsentShards::Refuse,
                                             checkpoint::Additions additions = {},
                                             LeftOut left_out = {});
/// What the format only tolerates: a sentence each, or a warning.
void tell_findings(const io::Checkpoint& checkpoint, std::vector<std::string>& notes,
                   std::vector<Error>& warnings);
[[nodiscard]] checkpoint::OpenOptions open_options(const Options& options);

/// Why no family says what is wanted of rules under test: none knows the architecture, or the one
/// that does is not about this config.
[[nodiscard]] std::string why_alone(const checkpoint::HfModel& hf);

/// Facts of the model for the report's header.
void describe_model(const Options& options, const OpenedModel& opened, Run& run);

/// --tp is given, --etp is not: experts are cut as all else is, which Megatron does too.
[[nodiscard]] bool etp_follows(const Options& options);
/// A note that says so of a model with experts; "" otherwise.
[[nodiscard]] std::string etp_note(const Options& options, const model::Model& model);

/// The layouts of this run. Explicit sizes are multiplied out and must all be legal; --layout names
/// some; else
/// --layouts auto, quick, all or a file of layout ids.
struct ChosenLayouts {
  std::vector<parallel::Layout> layouts;
  std::string note;
  bool asked_for = false;  // by sizes, names or a file: each must be judged
};
[[nodiscard]] Result<ChosenLayouts> choose_layouts(const Options& options,
                                                   const model::Model& model);
/// The single layout that convert and layout want. Errors: BadValue when lists are given.
[[nodiscard]] Result<parallel::Layout> one_layout(const Options& options);
/// A layout as it is used: without experts and without --etp the expert grid has one rank (shard
/// names end in etp0), and plan::with_padding.
[[nodiscard]] parallel::Layout settle(parallel::Layout layout, const Options& options,
                                      const model::Model& model);
[[nodiscard]] std::vector<LayoutRow> layout_rows(const std::vector<parallel::Layout>& layouts);

/// A progress sink for the engine on this command's stderr; stops at Ctrl-C.
class CommandProgress : public ProgressSink {
 public:
  /// `world`: told that this process moves; may be null.
  CommandProgress(Context& context, const Options& options, comm::Link* world = nullptr);
  ~CommandProgress() override;
  void start(std::string_view phase, std::uint64_t total_bytes,
             std::uint64_t total_tensors) override;
  void advance(std::uint64_t bytes, std::uint64_t tensors, std::string_view current) override;
  [[nodiscard]] bool stop_requested() const override;

 private:
  struct Ticker;
  comm::Link* world_ = nullptr;
  Progress progress_;
  std::unique_ptr<Ticker> ticker_;
};

[[nodiscard]] int jobs_of(const Options& options);
/// The command with the options that decide what is found. Claims add --only and --layout to it;
/// fill_replays() then writes the lines that are printed.
[[nodiscard]] std::string replay_base(const Options& options);

}  // namespace bv::cli
