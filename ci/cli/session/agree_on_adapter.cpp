#include "ci/cli/session/agree_on_adapter.hpp"

#include <fmt/format.h>

#include "ci/cli/commands/merging_source.hpp"
#include "core/comm/agree.hpp"
#include "core/io/carry_file.hpp"
#include "core/io/sha256.hpp"

namespace bv::cli {

Status agree_on_adapter(comm::Link* world, const lora::Adapter& adapter) {
  if (world == nullptr) {
    return Done{};
  }
  const comm::Fact mine = {"adapter", digest_of(adapter)};
  return comm::agree_on_facts(*world, {&mine, 1});
}

Status agree_on_adapter(comm::Link* world, const lora::MegatronAdapter& adapter) {
  if (world == nullptr) {
    return Done{};
  }
  std::string sums;
  if (adapter.record) {
    BV_TRY(record, io::print_of_file(adapter.folder / lora::kRecordName));
    sums = record.digest + "\n";
  }
  for (const io::Checkpoint& file : adapter.files) {
    for (const auto& path : file.files()) {
      sums += path.filename().string() + " ";
    }
    sums += lora::digest_of_tensors(file) + "\n";
  }
  const comm::Fact mine = {"adapter", io::sha256(sums).substr(0, 32)};
  return comm::agree_on_facts(*world, {&mine, 1});
}

}  // namespace bv::cli
