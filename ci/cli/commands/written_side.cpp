#include "ci/cli/commands/written_side.hpp"

namespace bv::cli {

Result<OpenedModel> WrittenSide::open(Context& context, const Options& given,
                                      const std::string& model, const Library& library, Run& run) {
  Options one = given;
  one.model = model;
  auto plain = written ? written->open(context, model, library) : open_model(context, one, library);
  if (!plain || given.adapter.empty()) {
    return plain;
  }
  if (written) {
    one = written->all_options(model);
  }
  BV_TRY(opened, open_merging(context, one, library, run));
  merging = std::move(opened);
  return std::move(merging->model);
}

Result<OpenedModel> WrittenSide::open_wanted(Context& context, const Options& given,
                                             const std::string& model, const Library& library,
                                             Run& run) {
  BV_TRY(opened, open(context, given, model, library, run));
  if (merging) {
    run.notes.push_back(merged_note(*merging, written ? &written->manifest : nullptr));
  }
  return std::move(opened);
}

}  // namespace bv::cli
