// libFuzzer entry for archives of torch.save (tests/fuzz/run.sh). Properties: every archive is
// answered; the records and tensors of an accepted one lie inside it, and no two records on one
// another.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/assert.hpp"
#include "core/pickle/tensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto archive = bv::pickle::Archive::open(bytes, "fuzz");
  if (archive) {
    std::vector<bv::pickle::Record> records = archive->records();
    std::sort(records.begin(), records.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::uint64_t end = 0;
    for (const bv::pickle::Record& record : records) {
      BV_ASSERT(record.begin >= end && record.begin <= size && record.size <= size - record.begin);
      BV_ASSERT(("/" + record.name + "/").find("/../") == std::string::npos);
      end = record.begin + record.size;
    }
  }
  const auto file = bv::pickle::open_torch_file(bytes, "fuzz");
  if (!file) {
    BV_ASSERT(!file.error().message.empty() && !file.error().help.empty());
    return 0;
  }
  for (bv::pickle::Id id = 0; id < file->pickle.size(); ++id) {
    if (!bv::pickle::is_tensor(file->pickle, id)) {
      continue;
    }
    const auto tensor = bv::pickle::tensor_of(*file, id);
    BV_ASSERT(!tensor || (tensor->begin <= tensor->end && tensor->end <= size &&
                          tensor->record->begin <= tensor->begin &&
                          tensor->end <= tensor->record->begin + tensor->record->size));
  }
  return 0;
}
