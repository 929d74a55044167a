#include "ci/cli/session/diff_division.hpp"

#include <map>
#include <string>

#include "core/comm/agree.hpp"
#include "core/comm/shares.hpp"
#include "core/io/carry_file.hpp"

namespace bv::cli {

Status agree_on_configs(comm::Link* world, const std::vector<std::filesystem::path>& folders) {
  if (world == nullptr) {
    return Done{};
  }
  std::vector<comm::Fact> facts;
  for (const std::filesystem::path& folder : folders) {
    const auto print = io::print_of_file(folder / "config.json");  // there may be none
    facts.push_back(
        {facts.empty() ? "config.json of A" : "config.json of B", print ? print->digest : "none"});
  }
  return comm::agree_on_facts(*world, facts);
}

std::vector<int> processes_of_subjects(const comm::Link* world,
                                       const compare::Comparison& comparison,
                                       const plan::Plan& plan) {
  if (world == nullptr) {
    return {};
  }
  std::map<std::string, std::size_t> files;
  for (std::size_t i = 0; i < plan.files().size(); ++i) {
    files[parallel::shard_name(plan.files()[i].key, plan.layout())] = i;
  }
  std::vector<comm::FilePiece> pieces;
  for (const compare::Subject& subject : comparison.subjects) {
    const auto file = files.find(subject.place);  // a checkpoint of one file may leave it unnamed
    pieces.push_back({file == files.end() ? 0 : file->second, tensor_bytes(subject.spec)});
  }
  return comm::processes_of_pieces(plan, pieces, world->size());
}

}  // namespace bv::cli
