#pragma once
// Two HF models that are compared: under --dtype as what their weights are cast to, and with copies
// and storage forms that one of the two alone has.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ci/cli/session/session.hpp"
#include "core/compare/diff.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::cli {

/// One of the two. With --dtype it is a model: quantised weights are dequantised.
struct ModelSide {
  std::unique_ptr<OpenedModel> opened;  // with --dtype
  std::optional<io::Checkpoint> files;  // without
  std::filesystem::path folder;         // where config.json is, or would be
  std::shared_ptr<void> keeps;          // of a fixture
  std::optional<model::Model> model;    // by its config, or that of the other side

  [[nodiscard]] const io::Checkpoint& checkpoint() const {
    return opened ? *opened->hf.checkpoint : *files;
  }
  [[nodiscard]] Headers headers() const { return opened ? opened->hf.headers : files->headers(); }
};

/// Notes and warnings of the files go to `run`. Errors: those of find_model and Checkpoint::open;
/// with --dtype those of open_model, and ModelNotFound for headers alone.
[[nodiscard]] Result<ModelSide> open_side(Context& context, const Options& options,
                                          const std::string& reference, const Library& library,
                                          Run& run);

/// Gives each side its model where a config.json says one that a family knows.
void find_models(const Library& library, ModelSide& a, ModelSide& b);

/// Names of `a` against those of `b`. A copy that the family lets a model leave out, and that one
/// of the two leaves out, is compared with what it repeats; both configs must tie the output layer,
/// or neither. Parameters in two forms of the family are compared as compare::compare_forms says.
/// `notes` say what was done. The sides and the library must outlive the result.
[[nodiscard]] compare::Comparison compare_models(const Options& options, const Library& library,
                                                 const ModelSide& a, const ModelSide& b,
                                                 std::vector<std::string>& notes);

/// Each copy that a side stores is what it repeats: verdicts of claim "values". None of those that
/// --exclude takes.
[[nodiscard]] std::vector<Verdict> copies_of(const Options& options, const ModelSide& a,
                                             const ModelSide& b);

/// The same of one model, named `side` where there are two: "A".
[[nodiscard]] std::vector<Verdict> copies_of(const io::TensorStore& store,
                                             const compare::Copies& copies, std::string_view side);

}  // namespace bv::cli
