//! Listings with `ETag`s and encoded keys, which S3's have and those of `s3s-fs` lack; storage classes, which S3 has and `s3s-fs` refuses,
//! are taken and forgotten. Requests that the services do not send are not
//! known here and are answered with an error.

use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, DeleteObjectInput, DeleteObjectOutput, EncodingType, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output,
    PutObjectInput, PutObjectOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::listing;

/// The store behind, and the folder of its buckets.
#[derive(Debug)]
pub(super) struct WithEtags {
    pub(super) files: FileSystem,
    pub(super) root: PathBuf,
}

#[async_trait::async_trait]
impl S3 for WithEtags {
    async fn copy_object(
        &self,
        mut request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        request.input.storage_class = None;
        self.files.copy_object(request).await
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.files.delete_object(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.files.get_object(request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        self.files.head_object(request).await
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        request.input.storage_class = None;
        self.files.put_object(request).await
    }

    async fn list_objects_v2(
        &self,
        mut request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        if let Some(token) = &mut request.input.continuation_token {
            *token = percent_decode_str(token).decode_utf8_lossy().into_owned();
        }
        let (bucket, input) = (self.root.join(&request.input.bucket), request.input.clone());
        let listing = tokio::task::spawn_blocking(move || listing::page(&bucket, input));
        let mut output = listing.await.map_err(|fault| s3_error!(fault, InternalError))??;
        for object in output.contents.iter_mut().flatten() {
            let mut input = HeadObjectInput::builder();
            input.set_bucket(request.input.bucket.clone());
            input.set_key(object.key.clone().unwrap_or_default());
            let Ok(input) = input.build() else { continue };
            // One that has gone since was listed all the same, as S3 may do.
            let head = self.files.head_object(request.clone().map_input(|_| input)).await;
            object.e_tag = head.ok().and_then(|head| head.output.e_tag);
        }
        // It is a key there, and stands in the XML too.
        output.next_continuation_token = output.next_continuation_token.take().map(|key| encoded(&key));
        // What was not encoded stands in the XML as it is, also what XML does not know.
        if output.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
            let objects = output.contents.iter_mut().flatten().map(|object| &mut object.key);
            let folders = output.common_prefixes.iter_mut().flatten().map(|folder| &mut folder.prefix);
            let own = [&mut output.prefix, &mut output.start_after];
            for key in objects.chain(folders).chain(own) {
                *key = key.take().map(|key| encoded(&key));
            }
        }
        Ok(S3Response::new(output))
    }
}

/// As S3 encodes keys: all but letters, digits, these and the slash.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');

fn encoded(key: &str) -> String {
    utf8_percent_encode(key, ENCODED).to_string()
}
