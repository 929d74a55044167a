// libFuzzer entry for shard indexes (tests/fuzz/run.sh). Properties: every text is answered; an
// accepted index is in order, and printed it is read again as the same; every shard name of it is
// one that may be opened.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/io/json_text.hpp"
#include "core/io/shard_index.hpp"

namespace {

std::string text_of(const bv::io::ShardIndex& index) {
  std::string out = "{\"weight_map\":{";
  for (const bv::io::IndexedTensor& tensor : index.tensors) {
    out += out.back() == '{' ? "" : ",";
    bv::io::append_json_string(out, tensor.name);
    out += ':';
    bv::io::append_json_string(out, index.shards[tensor.shard]);
  }
  return out + "}}";
}

void check_name(std::string_view text) {
  const auto name = bv::io::checked_shard_name(text, "fuzz");
  if (!name) {
    BV_ASSERT(!name.error().message.empty() && !name.error().help.empty());
    return;
  }
  BV_ASSERT(!name->starts_with('/') && name->ends_with(".safetensors"));
  BV_ASSERT(("/" + *name + "/").find("/../") == std::string::npos);
  const auto again = bv::io::checked_shard_name(*name, "fuzz");
  BV_ASSERT(again && *again == *name);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_name(text);
  const auto index = bv::io::parse_shard_index(text, "fuzz");
  if (!index) {
    BV_ASSERT(!index.error().message.empty() && !index.error().help.empty());
    return 0;
  }
  for (const std::string& shard : index->shards) {
    const auto name = bv::io::checked_shard_name(shard, "fuzz");
    BV_ASSERT(name && *name == shard);
  }
  for (std::size_t i = 0; i < index->tensors.size(); ++i) {
    BV_ASSERT(index->tensors[i].shard < index->shards.size());
    BV_ASSERT(i == 0 || index->tensors[i - 1].name < index->tensors[i].name);
  }
  BV_ASSERT(std::is_sorted(index->shards.begin(), index->shards.end()));
  for (const std::string& missing : bv::io::missing_by_number(index->shards)) {
    BV_ASSERT(std::find(index->shards.begin(), index->shards.end(), missing) ==
              index->shards.end());
  }
  const auto again = bv::io::parse_shard_index(text_of(*index), "printed");
  BV_ASSERT(again && again->shards == index->shards &&
            again->tensors.size() == index->tensors.size());
  for (std::size_t i = 0; i < index->tensors.size(); ++i) {
    BV_ASSERT(again->tensors[i].name == index->tensors[i].name &&
              again->tensors[i].shard == index->tensors[i].shard);
  }
  return 0;
}
