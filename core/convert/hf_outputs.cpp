#include "core/convert/hf_outputs.hpp"

#include "core/base/text.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/fault_text.hpp"
#include "core/layout/notation.hpp"

namespace bv::convert {
namespace {

/// Boxes that make one HF tensor out of its distinct owners. A line may hold an element twice, and
/// a cut may part the two.
std::vector<layout::Box> boxes_back(const plan::Plan& plan,
                                    const std::vector<plan::Plan::Owner>& distinct,
                                    std::size_t mapping, std::size_t hf) {
  std::vector<layout::Box> out;
  for (std::size_t i = 0; i < distinct.size(); ++i) {
    for (const layout::Box& box : plan.shard(checkpoint::target_at(plan, distinct[i])).boxes) {
      if (box.source == static_cast<int>(hf)) {
        out.push_back(layout::inverse(box, static_cast<int>(i)));
      }
    }
  }
  const layout::Rule& line = plan.bound(plan.model().mappings[mapping]).rule();
  return layout::copied_sources(line)[hf] ? layout::first_copies(std::move(out)) : out;
}

}  // namespace

std::vector<OutputFile> hf_outputs(const checkpoint::MegatronFolder& source, const plan::Plan& plan,
                                   const checkpoint::Shards& shards) {
  std::map<std::string, OutputFile> files;
  for (const auto& [name, metadata] : source.hf_metadata) {
    files[name].name = name;
    files[name].metadata = metadata;
    files[name].metadata.try_emplace("format", "pt");
  }
  const auto add = [&](const std::string& hf, std::size_t mapping, std::size_t position) {
    const model::Mapping& map = plan.model().mappings[mapping];
    OutputTensor tensor;
    tensor.spec = source.hf_headers.find(hf)->second;
    const auto distinct = checkpoint::split_owners(plan, mapping).distinct;
    for (const plan::Plan::Owner& owner : distinct) {
      tensor.sources.push_back(checkpoint::stored_at(shards, plan, owner));
    }
    tensor.boxes = [&plan, distinct, mapping, position] {
      return boxes_back(plan, distinct, mapping, position);
    };
    tensor.add = -map.rule->value.added_on_import();
    files[source.hf_file_of.at(hf)].tensors.push_back(std::move(tensor));
  };
  std::map<std::string, std::pair<std::size_t, std::size_t>> place_of;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    for (std::size_t i = 0; i < plan.model().mappings[m].hf.size(); ++i) {
      place_of[plan.model().mappings[m].hf[i]] = {m, i};
      add(plan.model().mappings[m].hf[i], m, i);
    }
  }
  for (const auto& [copy, original] :
       plan.model().must_equal) {  // stored twice in the source: given back twice
    const auto place = place_of.find(original);
    if (source.hf_headers.contains(copy) && place != place_of.end()) {
      add(copy, place->second.first, place->second.second);
    }
  }
  std::vector<OutputFile> out;
  for (auto& [name, file] : files) {
    out.push_back(std::move(file));
  }
  return out;
}

Status check_opens(const std::filesystem::path& folder, const Headers& wanted) {
  const auto fault = [](const std::string& found) {
    return fail(Code::IndexDisagrees,
                "the files that would be written do not make the checkpoint that was meant")
        .pair(found, "files that open as the tensors of the model")
        .advise(
            "an index or a file name was changed since the HF directory was converted: convert it "
            "again");
  };
  const auto opened = io::Checkpoint::open(folder);
  if (!opened) {
    return fault(opened.error().message);
  }
  const Headers found = opened->headers();
  for (const auto& [name, spec] : wanted) {
    const auto at = found.find(name);
    if (at == found.end() || at->second.dtype != spec.dtype || at->second.shape != spec.shape) {
      return fault("no such tensor or another one: " + io::in_quotes(name));
    }
  }
  return found.size() == wanted.size()
             ? Status(Done{})
             : Status(fault(counted(found.size(), "tensor") + ", more than were meant"));
}

}  // namespace bv::convert
