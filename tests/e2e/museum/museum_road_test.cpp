// Every exhibit of the museum as its victims met it: a torch_dist checkpoint that the faulty bridge
// left behind, judged from its files. The checkpoint of the right bridge is green.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/checkpoint/global_keys.hpp"
#include "core/kinds/values.hpp"
#include "core/pickle/archive_writer.hpp"
#include "core/pickle/crc32.hpp"
#include "core/torch_dist/metadata_writer.hpp"
#include "properties/attacks/mutants/judge.hpp"
#include "properties/attacks/mutants/museum.hpp"
#include "properties/attacks/mutants/tags.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/process.hpp"

namespace bv::mutants {
namespace {

namespace fs = std::filesystem;
using support::Ended;

/// Where an element of a parameter of the one-rank model lies in the shards of a layout.
struct Place {
  std::size_t file = 0;
  std::string name;
  std::size_t element = 0;
};
/// Of each parameter, by its elements.
using Places = std::map<std::string, std::vector<Place>>;

Image tags_of(const Program& right, const Reference& reference) {
  Tensors tags = reference.tags();
  return run_import(right, right, tags, poison);
}

/// The same HF element stands in both; padding goes with the padding of its parameter, in order.
Places places_of(const Program& whole, const Reference& reference) {
  const Program& cut = reference.right();
  const Image shards = tags_of(cut, reference);
  std::map<std::string, std::map<std::int64_t, Place>> at;
  std::map<std::string, std::vector<Place>> padding;
  for (const Move& move : cut.moves) {
    const Tensor& shard = shards.files[move.file].at(move.name);
    for (std::size_t i = 0; i < shard.bytes.size() / sizeof(std::int64_t); ++i) {
      const std::int64_t tag = tag_at(shard, i);
      const Place place{move.file, move.name, i};
      if (tag == 0) {
        padding[move.global_name].push_back(place);
      } else {
        at[move.global_name].emplace(tag, place);  // the first copy is the one that is saved
      }
    }
  }
  const Image one = tags_of(whole, reference);
  Places out;
  for (const Move& move : whole.moves) {
    const Tensor& tensor = one.files[move.file].at(move.name);
    std::vector<Place>& places = out[move.global_name];
    std::size_t pads = 0;
    places.clear();
    for (std::size_t i = 0; i < tensor.bytes.size() / sizeof(std::int64_t); ++i) {
      const std::int64_t tag = tag_at(tensor, i);
      places.push_back(tag == 0 ? padding.at(move.global_name).at(pads++)
                                : at.at(move.global_name).at(tag));
    }
  }
  return out;
}

/// The shards put together, as a save of Megatron-Core does it.
std::map<std::string, Tensor> whole_tensors(const Program& whole, const Places& places,
                                            const Image& image) {
  std::map<std::string, Tensor> out;
  for (const Move& move : whole.moves) {
    const std::vector<Place>& all = places.at(move.global_name);
    Tensor& tensor = out[move.global_name];
    tensor = {image.files[all[0].file].at(all[0].name).dtype, move.shape, {}};
    const auto size = static_cast<std::size_t>(bytes(tensor.dtype));
    tensor.bytes.resize(all.size() * size);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Tensor& shard = image.files[all[i].file].at(all[i].name);
      std::memcpy(tensor.bytes.data() + i * size, shard.bytes.data() + all[i].element * size, size);
    }
  }
  return out;
}

/// Elements [begin, end) in a type that holds those of every chunk of the key.
std::string elements_as(const Tensor& tensor, DType dtype, const checkpoint::KeyedChunk& chunk) {
  const auto from = static_cast<std::size_t>(bytes(tensor.dtype));
  const auto to = static_cast<std::size_t>(bytes(dtype));
  std::string out;
  std::vector<std::byte> one(to);
  for (auto i = static_cast<std::size_t>(chunk.begin.value);
       i < static_cast<std::size_t>(chunk.end.value); ++i) {
    kinds::store(kinds::load(tensor.bytes.data() + i * from, tensor.dtype), one.data(), dtype);
    out.append(reinterpret_cast<const char*>(one.data()), to);
  }
  return out;
}

void write_text(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

void write_torch_dist(const plan::Plan& plan, const std::map<std::string, Tensor>& tensors,
                      const fs::path& folder) {
  const checkpoint::GlobalKeys keys = checkpoint::global_keys(plan).value();
  std::map<std::string, DType> types;
  for (const checkpoint::KeyedTarget& target : keys.targets) {
    for (const checkpoint::KeyedChunk& chunk : target.chunks) {
      const DType own = tensors.at(target.target->global_name).dtype;
      const auto [at, added] = types.emplace(chunk.key, own);
      at->second = !added && at->second != own ? DType::F32 : own;
    }
  }
  torch_dist::Metadata metadata;
  std::string file;
  const auto place = [&](const std::string& item) {
    const torch_dist::Slice out{"__0_0.distcp", file.size(), item.size()};
    file += item;
    return out;
  };
  for (const std::string& key : keys.extra_states) {
    metadata.objects.emplace(key, place(torch_dist::empty_extra_state()));
  }
  for (const checkpoint::KeyedTarget& target : keys.targets) {
    for (const checkpoint::KeyedChunk& chunk : target.chunks) {
      const DType dtype = types.at(chunk.key);
      const std::string data = elements_as(tensors.at(target.target->global_name), dtype, chunk);
      const auto archive = pickle::tensor_archive(dtype, chunk.extent);
      torch_dist::StoredTensor& stored = metadata.tensors[chunk.key];
      stored.spec = {chunk.key, dtype, keys.shapes.find(chunk.key)->second};
      stored.chunks.push_back({{chunk.origin, chunk.extent},
                               place(std::string(archive.head()) + data +
                                     archive.tail(pickle::crc32(std::as_bytes(std::span(data)))))});
    }
  }
  const fs::path iteration = folder / "iter_0000000";
  write_text(iteration / "__0_0.distcp", file);
  write_text(iteration / ".metadata", torch_dist::metadata_text(metadata, "iter_0000000", ""));
  write_text(iteration / "metadata.json", torch_dist::format_text());
  write_text(iteration / "common.pt", torch_dist::common_file());
  write_text(folder / "latest_checkpointed_iteration.txt", "0");
}

support::EditedCheckpoint hf_of(const Reference& reference) {
  support::EditedCheckpoint out;
  out.config = nlohmann::ordered_json::parse(reference.model().sample.config);
  for (const auto& [name, tensor] : reference.values()) {
    out.tensors[name] = {tensor.dtype, tensor.shape, tensor.bytes};
  }
  return out;
}

std::vector<fs::path> exhibits() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "regress" / "bugs")) {
    if (entry.path().extension() == ".json") {
      out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// One exhibit, and what its bridge saves.
class Road {
 public:
  Road(const Library& library, const Exhibit& exhibit) {
    const auto samples = builtin_samples().value();
    const auto one =
        make_case(library, find_sample(samples, exhibit.sample).value(), exhibit.settings).value();
    const parallel::Layout layout = padded_layout(exhibit.layout).value();
    reference_.emplace(Reference::make(library, one, layout, oracle::Entry{}).value());
    attack_.emplace(apply(library, *one, reference_->right(), exhibit.mutant).value());
    parallel::Layout single = padded_layout("tp1pp1ep1etp1").value();
    *single.vocab_divisor *= layout.tp;
    plan_.emplace(plan::Plan::make(one->model, library.kinds, single).value());
    whole_ = compile(one->model, library.kinds, single).value();
    places_ = places_of(whole_, *reference_);
    hf_of(*reference_).write(folder_ / "hf");
  }

  [[nodiscard]] Ended judge(const Program& program, const std::string& name) const {
    const Image image = saved_by(program);
    write_torch_dist(*plan_, whole_tensors(whole_, places_, image), folder_.path() / name);
    std::vector<std::string> line = {"check",        "--json",     "--model",
                                     folder_ / "hf", "--megatron", folder_ / name};
    const family::Orientation stacks = reference_->model().resolve.expert_orientation;
    if (!text(stacks).empty()) {  // of square stacks no shape tells it
      line.insert(line.end(), {"--expert-orientation", std::string(text(stacks))});
    }
    return support::run(line);
  }
  [[nodiscard]] Image saved_by(const Program& program) const {
    Tensors hf = reference_->values();
    return run_import(reference_->right(), program, hf, poison);
  }
  /// Parameters of which a save takes elements that differ from the right ones.
  [[nodiscard]] std::set<std::string> changed() const {
    const auto right = whole_tensors(whole_, places_, saved_by(reference_->right()));
    std::set<std::string> out;
    for (const auto& [name, tensor] :
         whole_tensors(whole_, places_, saved_by(attack_->way_there))) {
      if (tensor != right.at(name)) {
        out.insert(name);
      }
    }
    return out;
  }
  [[nodiscard]] bool stops_by_itself() const { return !saved_by(attack_->way_there).loud.empty(); }
  [[nodiscard]] const Program& right() const { return reference_->right(); }
  [[nodiscard]] const Program& faulty() const { return attack_->way_there; }

 private:
  support::TempFolder folder_;
  std::optional<Reference> reference_;
  std::optional<Attack> attack_;
  std::optional<plan::Plan> plan_;
  Program whole_;
  Places places_;
};

/// Every parameter that a verdict of the document refutes.
std::set<std::string> refuted_in(const std::string& document) {
  std::set<std::string> out;
  const auto parsed = nlohmann::json::parse(document);
  for (const auto& verdict : parsed.at("verdicts")) {
    if (verdict.at("outcome") == "Refuted") {
      const auto& subject = verdict.at("subject");
      const auto all = subject.find("all");
      if (all == subject.end()) {
        out.insert(subject.at("megatron").get<std::string>());
      } else {
        out.insert(all->begin(), all->end());
      }
    }
  }
  return out;
}

class MuseumRoad : public ::testing::TestWithParam<fs::path> {};

TEST_P(MuseumRoad, TheCheckpointThatTheBugLeftIsRefutedAndItsTwinIsNot) {
  std::ifstream in(GetParam());
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const Exhibit exhibit = read_exhibit(text, GetParam().filename().string()).value();
  static const Library library = load_library().value();
  const Road road(library, exhibit);
  const Ended twin = road.judge(road.right(), "right");
  EXPECT_EQ(twin.code, 0) << twin.all();
  // What the bug left: a "wrong" checkpoint; a "right" one, where the export alone is wrong or a
  // save takes the right copy; none, because the bridge "raises".
  const std::string left = nlohmann::json::parse(text).at("checkpoint").get<std::string>();
  EXPECT_EQ(road.stops_by_itself(), left == "raises");
  if (road.stops_by_itself()) {
    return;
  }
  const std::set<std::string> changed = road.changed();
  EXPECT_EQ(changed.empty(), left == "right");
  const Ended ended = road.judge(road.faulty(), "faulty");
  EXPECT_EQ(ended.code, changed.empty() ? 0 : 1) << exhibit.bug << "\n" << ended.all();
  EXPECT_EQ(refuted_in(ended.out), changed) << exhibit.bug;
}

INSTANTIATE_TEST_SUITE_P(Bugs, MuseumRoad, ::testing::ValuesIn(exhibits()),
                         [](const auto& row) { return row.param.stem().string(); });

}  // namespace
}  // namespace bv::mutants
