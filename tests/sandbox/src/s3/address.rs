//! Whether a request reaches the bucket that there is, in its region. It is told as S3 tells it, before anything else:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.

use hyper::Request;
use hyper::header::AUTHORIZATION;

use super::{BUCKET, REGION};

/// Status, code and message for a request that does not reach it.
pub(super) fn wrong<B>(request: &Request<B>) -> Option<(u16, &'static str, &'static str)> {
    let bucket = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    if !bucket.is_empty() && bucket != BUCKET {
        return Some((404, "NoSuchBucket", "The specified bucket does not exist"));
    }
    match signed_region(request)? {
        REGION => None,
        // The endpoint of this region is the global one: the request reaches the bucket all the same.
        "us-east-1" => Some((
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'",
        )),
        _ => Some((
            301,
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future \
             requests to this endpoint.",
        )),
    }
}

/// The region that a request is signed for: `Credential=key/20260302/region/s3/aws4_request`.
fn signed_region<B>(request: &Request<B>) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    header.split_once("Credential=")?.1.split('/').nth(2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_the_one_bucket_and_signed_for_its_region() {
        let code = |path: &str, region: &str| {
            let credential =
                format!("AWS4-HMAC-SHA256 Credential=k/20260302/{region}/s3/aws4_request, Signature=x");
            let request = Request::builder().uri(path).header(AUTHORIZATION, credential).body(()).unwrap();
            wrong(&request).map(|(_, code, _)| code)
        };
        assert_eq!(code("/livestream/k", REGION), None);
        assert_eq!(code("/livestream?list-type=2", REGION), None);
        assert_eq!(code("/livestrean/k", REGION), Some("NoSuchBucket"));
        assert_eq!(code("/livestream/k", "us-west-2"), Some("PermanentRedirect"));
        assert_eq!(code("/livestream/k", "us-east-1"), Some("AuthorizationHeaderMalformed"));
    }
}
