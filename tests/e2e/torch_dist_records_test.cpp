// What convert writes against what Megatron-Core wrote of the same model, record by record. The
// differences are those that docs/reference/formats.md#torch_dist names.

#include <algorithm>
#include <fstream>
#include <set>

#include "core/pickle/tensors.hpp"
#include "core/torch_dist/metadata.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using torch_dist::Metadata;
using torch_dist::Slice;
using torch_dist::StoredChunk;
using torch_dist::StoredTensor;

/// An iteration's folder.
struct Saved {
  explicit Saved(fs::path at) : folder(std::move(at)) {
    const std::string text = torch_dist::slurp(folder / ".metadata");
    metadata = torch_dist::read_metadata(std::as_bytes(std::span(text)), "f").value();
  }
  [[nodiscard]] std::string item(const Slice& slice) const {
    std::string out(slice.length, '\0');
    std::ifstream in(folder / slice.file, std::ios::binary);
    in.seekg(static_cast<std::streamoff>(slice.offset));
    in.read(out.data(), std::ssize(out));
    EXPECT_TRUE(in.good()) << slice.file;
    return out;
  }
  fs::path folder;
  Metadata metadata;
};

/// What an item says. Records by name, but for the serialization id, which is random, and the
/// pickle, whose operations may be others: its tensors stand for it.
struct Said {
  explicit Said(const std::string& item) {
    const auto file = pickle::open_torch_file(std::as_bytes(std::span(item)), "f").value();
    EXPECT_EQ(file.archive.folder(), "archive");
    for (const pickle::Record& record : file.archive.records()) {
      if (record.name != ".data/serialization_id" && record.name != "data.pkl") {
        EXPECT_TRUE(record.size == 0 || record.begin % 64 == 0) << record.name;
        records[record.name] = item.substr(record.begin, record.size);
      }
    }
    const pickle::Id root = file.pickle.root();
    is_list = file.pickle.kind(root) == pickle::Kind::List;
    const auto items = file.pickle.items(root);
    for (const pickle::Id id : is_list ? std::vector<pickle::Id>(items.begin(), items.end())
                                       : std::vector<pickle::Id>{root}) {
      const auto tensor = pickle::tensor_of(file, id).value();
      tensors.emplace_back(tensor.record->name, tensor.dtype, tensor.shape);
    }
  }
  bool operator==(const Said&) const = default;
  std::map<std::string, std::string> records;
  bool is_list = false;
  std::vector<std::tuple<std::string, DType, Shape>> tensors;
};

const StoredChunk* find_place(const StoredTensor& tensor, const io::ChunkPlace& place) {
  const auto found = std::find_if(tensor.chunks.begin(), tensor.chunks.end(), [&](const auto& one) {
    return one.place.origin == place.origin && one.place.extent == place.extent;
  });
  return found == tensor.chunks.end() ? nullptr : &*found;
}

template <class Map>
std::set<std::string> keys_of(const Map& map) {
  std::set<std::string> out;
  for (const auto& [key, value] : map) {
    out.insert(key);
  }
  return out;
}

class WrittenRecords : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const fs::path golden = support::golden("torch_dist/" + GetParam());
    const auto expected = read_json(golden / "expected.json");
    real_.emplace(golden / "iter_0000000");
    const std::string dtype = expected.at("params_dtype") == "F32" ? "float32" : "bfloat16";
    std::int64_t rows = 0;
    for (const auto& [key, tensor] : real_->metadata.tensors) {
      rows = key.ends_with("word_embeddings.weight") ? tensor.spec.shape[0] : rows;
    }
    run({"convert", "--to", "torch_dist", "--model", golden_hf(GetParam()).string(), "--dtype",
         dtype, "--make-vocab-size-divisible-by", std::to_string(rows), "--out", folder_ / "o"});
    ASSERT_TRUE(fs::exists(folder_ / "o"));
    ours_.emplace(folder_.path() / "o/iter_0000000");
  }
  TempFolder folder_;
  std::optional<Saved> real_;
  std::optional<Saved> ours_;
};

/// Items of the same chunk say the same.
TEST_P(WrittenRecords, OfTensorsAreThoseOfTheRealWriter) {
  ASSERT_EQ(keys_of(ours_->metadata.tensors), keys_of(real_->metadata.tensors));
  std::int64_t same = 0;
  for (const auto& [key, wanted] : real_->metadata.tensors) {
    const StoredTensor& found = ours_->metadata.tensors.at(key);
    EXPECT_EQ(found.spec.shape, wanted.spec.shape) << key;
    if (found.spec.dtype != wanted.spec.dtype) {  // --dtype keeps the vision tower in F32
      EXPECT_TRUE(key.starts_with("vision_model.")) << key;
      continue;
    }
    for (const StoredChunk& chunk : wanted.chunks) {
      const StoredChunk* const twin = find_place(found, chunk.place);
      if (twin != nullptr) {  // one rank cuts into fewer chunks than many
        EXPECT_TRUE(Said(ours_->item(twin->slice)) == Said(real_->item(chunk.slice))) << key;
        EXPECT_EQ(twin->slice.offset % 4096, 0U) << key;
        ++same;
      }
    }
  }
  EXPECT_GT(same, 10);
}

TEST_P(WrittenRecords, OfObjectsAreThoseOfTheRealWriter) {
  auto wanted = keys_of(real_->metadata.objects);
  ASSERT_EQ(wanted.erase("common_state/shard_0_1"), 1U);  // ours lies in common.pt
  EXPECT_EQ(keys_of(ours_->metadata.objects), wanted);
  for (const std::string& key : wanted) {
    const Said found(ours_->item(ours_->metadata.objects.at(key)));
    EXPECT_TRUE(found == Said(real_->item(real_->metadata.objects.at(key)))) << key;
    EXPECT_TRUE(found.is_list);
  }
}

TEST_P(WrittenRecords, OfTheFolderAreThoseOfTheRealWriter) {
  EXPECT_EQ(file_text(ours_->folder / "metadata.json"), file_text(real_->folder / "metadata.json"));
  const auto names = [](const fs::path& folder) {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".distcp") {
        out.insert(entry.path().filename().string());
      }
    }
    return out;
  };
  auto wanted = names(real_->folder);
  wanted.erase("run_config.yaml");
  wanted.erase("train_state.pt");
  wanted.insert("common.pt");
  wanted.insert("bridge-verify.json");  // what it was written with; Megatron reads no such file
  EXPECT_EQ(names(ours_->folder), wanted);
  EXPECT_TRUE(fs::exists(ours_->folder / "__0_0.distcp"));
}

INSTANTIATE_TEST_SUITE_P(All, WrittenRecords,
                         ::testing::Values("qwen3", "qwen3_5_dense_mtp", "qwen3_5_moe_packed",
                                           "qwen3_5_vl_dense"));

}  // namespace
}  // namespace bv::e2e
