#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/json_text.hpp"
#include "core/comm/shares.hpp"
#include "core/convert/shared_output.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/serve/pieces.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

using Json = nlohmann::ordered_json;

std::vector<SlicePiece> slice_pieces(const std::vector<ServedModule>& modules, std::size_t rank) {
  std::vector<SlicePiece> out;
  for (std::size_t m = 0; m < modules.size(); ++m) {
    const ServedModule& module = modules[m];
    for (std::size_t i = 0; i < module.ranks[rank].size(); ++i) {
      const SliceShard& shard = module.ranks[rank][i];
      if (!shard.member) {
        continue;
      }
      const AdapterPair& pair = *module.members[*shard.member];
      const auto add = [&](const char* which, const Factor& factor, Interval rows,
                           Interval columns) {
        out.push_back({{fmt::format("{}.{}.{}.weight", module.layer.name, i, which),
                        factor.dtype,
                        {rows.size(), columns.size()}},
                       &factor,
                       rows,
                       columns,
                       m});
      };
      add("lora_A", pair.a, shard.a_from_rows, shard.a_from_columns);
      add("lora_B", pair.b, shard.b_from_rows, shard.b_from_columns);
    }
  }
  return out;
}

std::vector<std::byte> slice_bytes(const SlicePiece& piece) {
  const auto size = static_cast<std::size_t>(bytes(piece.factor->dtype));
  std::vector<std::byte> out(static_cast<std::size_t>(piece.rows.size() * piece.columns.size()) *
                             size);
  std::byte* to = out.data();
  for (std::int64_t i = piece.rows.begin; i < piece.rows.end; ++i) {
    for (std::int64_t j = piece.columns.begin; j < piece.columns.end; ++j, to += size) {
      std::memcpy(to, piece.factor->at(i, j), size);
    }
  }
  return out;
}

std::string rank_file(std::size_t rank) {
  return fmt::format("tp{}.safetensors", rank);
}

namespace {

Result<std::int64_t> write_rank(const std::vector<ServedModule>& modules, std::size_t rank,
                                const fs::path& folder) {
  const std::vector<SlicePiece> pieces = slice_pieces(modules, rank);
  std::map<std::string, const SlicePiece*> by_name;
  std::vector<TensorSpec> specs;
  for (const SlicePiece& piece : pieces) {
    by_name[piece.spec.name] = &piece;
    specs.push_back(piece.spec);
  }
  BV_TRY(plan, io::plan_safetensors(std::move(specs), {{"format", "pt"}}));
  BV_TRY(file, io::PendingFile::create(folder / rank_file(rank), plan.file_size));
  BV_CHECK(file.write_at(0, std::as_bytes(std::span(plan.header))));
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    BV_CHECK(file.write_at(plan.offsets[i], slice_bytes(*by_name.at(plan.tensors[i].name))));
  }
  BV_CHECK(file.commit());
  return static_cast<std::int64_t>(pieces.size());
}

Json described(const ServedModule& module) {
  Json out;
  out["module"] = module.layer.name;
  out["slices"] = module.layer.slices;
  Json members = Json::array();
  for (std::size_t j = 0; j < module.members.size(); ++j) {
    const AdapterPair* pair = module.members[j];
    Json row;
    row["tensor"] = module.names[j];
    row["present"] = pair != nullptr;
    if (pair != nullptr) {
      row["rank"] = pair->rank();
      row["scale"] = scale64(pair->scale, pair->alpha, pair->rank());
    }
    members.push_back(std::move(row));
  }
  out["members"] = std::move(members);
  Json slices = Json::array();
  for (const SliceShard& shard : module.ranks.front()) {
    Json row;
    row["member"] = shard.member ? Json(*shard.member) : Json();
    row["a_shape"] = {shard.a_rows, shard.a_columns};
    row["b_shape"] = {shard.b_rows, shard.b_columns};
    slices.push_back(std::move(row));
  }
  out["buffers"] = std::move(slices);
  return out;
}

}  // namespace

std::string slices_text(const std::vector<ServedModule>& modules, const Serving& serving) {
  Json out;
  out["schema"] = kSlicesSchema;
  out["tp"] = serving.tp;
  out["fully_sharded"] = serving.fully_sharded;
  out["max_rank"] = serving.rank_max;
  Json list = Json::array();
  for (const ServedModule& module : modules) {
    list.push_back(described(module));
  }
  out["modules"] = std::move(list);
  return json_text(out, 2) + "\n";
}

namespace {

/// By file: with fewer processes than files neighbours share one.
int process_of(std::size_t rank, std::size_t ranks, std::size_t processes) {
  return static_cast<int>(processes <= ranks ? rank * processes / ranks : rank);
}

/// Of what all wrote.
Result<std::int64_t> sum_of(std::int64_t mine, comm::Link* world) {
  if (world == nullptr) {
    return mine;
  }
  const std::string text = std::to_string(mine);
  BV_TRY(all, comm::exchanged(*world, {&text, 1}, "how many factors each process wrote"));
  std::int64_t out = 0;
  for (const std::vector<std::string>& texts : all) {
    std::int64_t one = 0;
    std::from_chars(texts.at(0).data(), texts.at(0).data() + texts.at(0).size(), one);
    out += one;
  }
  return out;
}

}  // namespace

Result<SlicedFiles> write_slices(const std::vector<ServedModule>& modules, const Adapter& adapter,
                                 const Serving& serving, const fs::path& out, bool overwrite,
                                 comm::Link* world) {
  const auto ranks = static_cast<std::size_t>(serving.tp);
  std::set<std::string> names = {kSlicesName};
  for (std::size_t t = 0; t < ranks; ++t) {
    names.insert(rank_file(t));
  }
  io::OutputRequest request{out, overwrite, false};
  request.sources = {adapter.folder};
  request.files = names;
  request.first_stranger = [names](const fs::path& folder) {
    return io::first_unlisted(folder, {names.begin(), names.end()});
  };
  BV_TRY(folder, convert::SharedOutput::create(std::move(request), {}, world));
  std::int64_t tensors = 0;
  for (std::size_t t = 0; t < ranks; ++t) {
    if (world != nullptr &&
        process_of(t, ranks, static_cast<std::size_t>(world->size())) != world->rank()) {
      continue;
    }
    auto written = write_rank(modules, t, folder.partial());
    if (!written) {
      folder.abandon();
      return std::move(written).error();
    }
    tensors += *written;
  }
  BV_TRY(all_tensors, sum_of(tensors, world));
  if (folder.is_host()) {
    BV_CHECK(io::write_file(folder.partial() / kSlicesName, slices_text(modules, serving)));
  }
  BV_CHECK(folder.finish(names));
  return SlicedFiles{serving.tp, all_tensors};
}

}  // namespace bv::lora
