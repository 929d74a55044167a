#include "core/torch_dist/metadata_writer.hpp"

#include "core/pickle/archive_writer.hpp"
#include "core/pickle/pickle_writer.hpp"

namespace bv::torch_dist {
namespace {

using pickle::PickleWriter;

constexpr const char* kMetadataModule = "torch.distributed.checkpoint.metadata";

void add_size(PickleWriter& out, const Shape& shape) {
  out.global("torch", "Size").begin_tuple().numbers(shape).end_tuple().reduce();
}

void add_properties(PickleWriter& out, DType dtype) {
  out.global(kMetadataModule, "TensorProperties").object().begin_tuple();
  out.global("torch", pickle::torch_name(dtype));
  out.global("torch.serialization", "_get_layout").begin_tuple().text("torch.strided").end_tuple();
  out.reduce().boolean(false);
  out.global(kMetadataModule, "_MEM_FORMAT_ENCODING").begin_tuple().number(0).end_tuple().reduce();
  out.boolean(false).end_tuple().build();
}

void add_tensor_entry(PickleWriter& out, const StoredTensor& tensor) {
  out.global(kMetadataModule, "TensorStorageMetadata").object().begin_dict();
  out.text("properties");
  add_properties(out, tensor.spec.dtype);
  out.text("size");
  add_size(out, tensor.spec.shape);
  out.text("chunks").begin_list();
  for (const StoredChunk& chunk : tensor.chunks) {
    out.global(kMetadataModule, "ChunkStorageMetadata").object().begin_dict().text("offsets");
    add_size(out, chunk.place.origin);
    out.text("sizes");
    add_size(out, chunk.place.extent);
    out.end_dict().build();
  }
  out.end_list().end_dict().build();
}

/// One key and value of storage_data; objects have no offset.
void add_slice(PickleWriter& out, const std::string& key, const Shape* origin, const Slice& slice) {
  out.global(kMetadataModule, "MetadataIndex").object().begin_dict();
  out.text("fqn").text(key);
  if (origin != nullptr) {
    out.text("offset");
    add_size(out, *origin);
  }
  out.text("index").none().end_dict().build();
  out.global("torch.distributed.checkpoint.filesystem", "_StorageInfo").object().begin_dict();
  out.text("relative_path").text(slice.file);
  out.text("offset").number(static_cast<std::int64_t>(slice.offset));
  out.text("length").number(static_cast<std::int64_t>(slice.length)).end_dict().build();
}

}  // namespace

std::string metadata_text(const Metadata& metadata, const std::string& checkpoint_id,
                          const std::string& save_id) {
  PickleWriter out;
  out.global(kMetadataModule, "Metadata").object().begin_dict();
  out.text("state_dict_metadata").begin_dict();
  for (const auto& [key, slice] : metadata.objects) {
    out.text(key).global(kMetadataModule, "BytesStorageMetadata").object();
  }
  for (const auto& [key, tensor] : metadata.tensors) {
    out.text(key);
    add_tensor_entry(out, tensor);
  }
  out.end_dict();
  out.text("planner_data").none();
  out.text("storage_data").begin_dict();
  for (const auto& [key, slice] : metadata.objects) {
    add_slice(out, key, nullptr, slice);
  }
  for (const auto& [key, tensor] : metadata.tensors) {
    for (const StoredChunk& chunk : tensor.chunks) {
      add_slice(out, key, &chunk.place.origin, chunk.slice);
    }
  }
  out.end_dict();
  out.text("storage_meta").global(kMetadataModule, "StorageMeta").object().begin_dict();
  out.text("checkpoint_id").text(checkpoint_id).text("save_id").text(save_id);
  out.text("load_id").none().text("modules").begin_list().end_list().end_dict().build();
  out.text("version").text("1.0.0");
  out.end_dict().build();
  return std::move(out).finished();
}

std::string format_text() {
  return R"({"sharded_backend": "torch_dist", "sharded_backend_version": 1})";
}

std::string common_file() {
  PickleWriter out;
  out.begin_dict();
  out.text("checkpoint_version").real(3.0).text("iteration").number(0);
  out.text("content_metadata").begin_dict();
  out.text("singleton_local_shards").boolean(false);
  out.text("chained_optim_avoid_prefix").boolean(true).end_dict();
  out.end_dict();
  return pickle::object_archive("common", std::move(out).finished(), {});
}

std::string empty_extra_state() {
  PickleWriter out;
  out.begin_list();
  pickle::add_tensor(out, DType::U8, {0});
  out.end_list();
  return pickle::object_archive("archive", std::move(out).finished(), {""});
}

}  // namespace bv::torch_dist
